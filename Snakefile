from snakemake.utils import min_version

min_version("9.22")


# The embedded example, unless a configuration with datasets is given: the two would be merged otherwise.
if "datasets" not in config:

    configfile: "config/config.yaml"


module branchgen:
    snakefile:
        "workflow/Snakefile"
    config:
        config


use rule * from branchgen
