"""One small integer for each step that makes results: raised exactly when they would change.

The numbers enter the rules' params, so that Snakemake reruns what a real change affects, and
nothing when code changes only in looks. The full fingerprint of the code goes into provenance.json.
"""

RESULT_VERSIONS = {
    "settings": 1,
    "download": 1,
    "unpack": 1,
    "convert": 1,  # ademvl backbones convert
    "data": 4,  # ademvl data convert, of all sources
    "verify": 1,  # ademvl data verify
    "mini_backbones": 4,
    "mini_shapes_backbones": 2,
    "features": 2,
    "train": 4,
    "evaluate": 2,
    "tables": 11,
    "figures": 10,
    "fusion_maps": 5,
    "bundle": 4,
    "report": 12,
}
