"""
From cells in latent space to the tree of their classes.
"""


rule derive:
    """Derives the hierarchy of classes and its branch times."""
    input:
        cells="<results>/{dataset}/cells.h5ad",
        latents="<results>/{dataset}/latents.h5ad",
        newick=lambda wildcards: about(wildcards).get("newick", []),
    output:
        hierarchy="<results>/{dataset}/hierarchy.json",
        newick="<results>/{dataset}/hierarchy.nwk",
        divergence="<results>/{dataset}/divergence.parquet",
    log:
        "<logs>/{dataset}/derive.log",
    benchmark:
        "<benchmarks>/{dataset}/derive.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=memory_mb(4000),
        runtime=120,
    params:
        tree=lambda wildcards: dataset_flags(wildcards, ["newick", "levels"]),
        settings=flags("derive"),
        seed=seed_of,
        code=fingerprint("derive"),
    shell:
        "branchgen derive --cells {input.cells:q} --latents {input.latents:q} {params.tree} --output-hierarchy {output.hierarchy:q}"
        " --output-newick {output.newick:q} --output-divergence {output.divergence:q}"
        " --seed {params.seed} {params.settings} > {log:q} 2>&1"
