"""
From raw counts to cells in latent space.
"""


rule fetch:
    """Downloads the counts and checks them."""
    output:
        cells="<results>/{dataset}/source.h5ad",
    log:
        "<logs>/{dataset}/fetch.log",
    benchmark:
        "<benchmarks>/{dataset}/fetch.tsv"
    localrule: True
    conda:
        "../../environment.yml"
    params:
        url=lambda wildcards: about(wildcards)["source"],
        sha256=lambda wildcards: about(wildcards)["sha256"],
    shell:
        "branchgen fetch --url {params.url:q} --sha256 {params.sha256:q} --output-cells {output.cells:q} > {log:q} 2>&1"


rule prepare:
    """Validates, filters and splits the counts."""
    input:
        source=source_file,
    output:
        cells="<results>/{dataset}/cells.h5ad",
    log:
        "<logs>/{dataset}/prepare.log",
    benchmark:
        "<benchmarks>/{dataset}/prepare.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=60,
    params:
        source=lambda wildcards, input: input.get("source") or about(wildcards)["source"],
        columns=lambda wildcards: dataset_flags(wildcards, ["label_key", "counts", "split_key"]),
        settings=flags("prepare"),
        seed=seed_of,
        code=fingerprint("prepare"),
    shell:
        "branchgen prepare --source {params.source:q} {params.columns} --output-cells {output.cells:q}"
        " --seed {params.seed} {params.settings} > {log:q} 2>&1"


rule encode:
    """Fits the codec and encodes the cells."""
    input:
        cells="<results>/{dataset}/cells.h5ad",
    output:
        codec="<results>/{dataset}/codec.pt",
        latents="<results>/{dataset}/latents.h5ad",
    log:
        "<logs>/{dataset}/encode.log",
    benchmark:
        "<benchmarks>/{dataset}/encode.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        gpu=N_GPUS,
        mem_mb=memory_mb(4000),
        runtime=lambda wildcards, attempt: 240 * attempt,
        device=config["device"],
    params:
        settings=flags("encode"),
        seed=seed_of,
        code=fingerprint("encode"),
    shell:
        "branchgen encode --cells {input.cells:q} --output-codec {output.codec:q} --output-latents {output.latents:q}"
        " --seed {params.seed} --device {resources.device} {params.settings} > {log:q} 2>&1"
