"""Gets data sets and weights: registry of sources, download, unpacking, images out of archives."""
