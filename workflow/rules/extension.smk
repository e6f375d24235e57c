"""
New classes for a trained model, one extension after the other.
"""


rule prepare_extension:
    """Validates and splits the counts of new classes, over the genes of the model."""
    input:
        source=lambda wildcards: extensions(wildcards)[wildcards.extension]["source"],
        like="<results>/{dataset}/cells.h5ad",
    output:
        cells="<results>/{dataset}/extended/{extension}/cells.h5ad",
    log:
        "<logs>/{dataset}/extended/{extension}/prepare.log",
    benchmark:
        "<benchmarks>/{dataset}/extended/{extension}/prepare.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=60,
    params:
        columns=lambda wildcards: as_flags(
            extensions(wildcards)[wildcards.extension], ["label_key", "counts", "split_key"]
        ),
        settings=flags("prepare"),
        seed=seed_of,
        code=fingerprint("prepare"),
    shell:
        "branchgen prepare --source {input.source:q} --like {input.like:q} {params.columns}"
        " --output-cells {output.cells:q} --seed {params.seed} {params.settings} > {log:q} 2>&1"


rule extend:
    """Adds the classes of new cells to the model, or to that of the extension before."""
    input:
        model=model_before,
        codec="<results>/{dataset}/codec.pt",
        cells="<results>/{dataset}/extended/{extension}/cells.h5ad",
    output:
        model="<results>/{dataset}/extended/{extension}/model.pt",
        hierarchy="<results>/{dataset}/extended/{extension}/hierarchy.json",
        newick="<results>/{dataset}/extended/{extension}/hierarchy.nwk",
        summary="<results>/{dataset}/extended/{extension}/summary.parquet",
    log:
        "<logs>/{dataset}/extended/{extension}/extend.log",
    benchmark:
        "<benchmarks>/{dataset}/extended/{extension}/extend.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        gpu=N_GPUS,
        mem_mb=memory_mb(4000),
        runtime=lambda wildcards, attempt: 120 * attempt,
        device=config["device"],
    params:
        settings=flags("extend"),
        seed=seed_of,
        code=fingerprint("extend"),
    shell:
        "branchgen extend --model {input.model:q} --codec {input.codec:q} --cells {input.cells:q}"
        " --output-model {output.model:q} --output-hierarchy {output.hierarchy:q} --output-newick {output.newick:q}"
        " --output-summary {output.summary:q}"
        " --seed {params.seed} --device {resources.device} {params.settings} > {log:q} 2>&1"


use rule generate as generate_extended with:
    input:
        model="<results>/{dataset}/extended/{extension}/model.pt",
        codec="<results>/{dataset}/codec.pt",
    output:
        generated="<results>/{dataset}/extended/{extension}/generated.h5ad",
    log:
        "<logs>/{dataset}/extended/{extension}/generate.log",
    benchmark:
        "<benchmarks>/{dataset}/extended/{extension}/generate.tsv"
    params:
        # The old classes' cells are those of the model itself.
        settings=f"{flags('generate')} --n-cells new",


use rule evaluate as evaluate_extended with:
    input:
        generated="<results>/{dataset}/extended/{extension}/generated.h5ad",
        cells="<results>/{dataset}/extended/{extension}/cells.h5ad",
        hierarchy="<results>/{dataset}/extended/{extension}/hierarchy.json",
        baselines=[],
    output:
        metrics="<results>/{dataset}/extended/{extension}/metrics.parquet",
        verdicts="<results>/{dataset}/extended/{extension}/verdicts.parquet",
        genes="<results>/{dataset}/extended/{extension}/genes.parquet",
        fold_changes="<results>/{dataset}/extended/{extension}/fold_changes.parquet",
        correlations="<results>/{dataset}/extended/{extension}/correlations.parquet",
        embedding="<results>/{dataset}/extended/{extension}/embedding.parquet",
    log:
        "<logs>/{dataset}/extended/{extension}/evaluate.log",
    benchmark:
        "<benchmarks>/{dataset}/extended/{extension}/evaluate.tsv"
    params:
        baselines="",


rule plot_extension:
    """Sets the page about new classes."""
    input:
        summary="<results>/{dataset}/extended/{extension}/summary.parquet",
        metrics="<results>/{dataset}/extended/{extension}/metrics.parquet",
        verdicts="<results>/{dataset}/extended/{extension}/verdicts.parquet",
    output:
        page=report(
            "<results>/{dataset}/extended/{extension}/page.html",
            caption="../report/extension.rst",
            category="New types",
            labels={"dataset": "{dataset}", "extension": "{extension}"},
        ),
    log:
        "<logs>/{dataset}/extended/{extension}/plot.log",
    benchmark:
        "<benchmarks>/{dataset}/extended/{extension}/plot.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=30,
    params:
        code=fingerprint("plot_extension"),
    shell:
        "branchgen plot-extension --summary {input.summary:q} --metrics {input.metrics:q}"
        " --verdicts {input.verdicts:q} --output-page {output.page:q} > {log:q} 2>&1"
