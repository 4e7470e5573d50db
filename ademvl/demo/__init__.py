"""The local web page on which trained adapters are asked: `ademvl demo`."""
