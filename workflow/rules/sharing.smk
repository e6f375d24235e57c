"""
What sharing branches saves and costs: models that share more or less, each asked for cells in several ways.
"""


use rule derive as derive_sharing with:
    input:
        cells="<results>/{dataset}/cells.h5ad",
        latents="<results>/{dataset}/latents.h5ad",
        newick=lambda wildcards: about(wildcards).get("newick", []),
    output:
        hierarchy="<results>/{dataset}/sharing/{cost}/hierarchy.json",
        newick="<results>/{dataset}/sharing/{cost}/hierarchy.nwk",
        divergence="<results>/{dataset}/sharing/{cost}/divergence.parquet",
    log:
        "<logs>/{dataset}/sharing/{cost}/derive.log",
    benchmark:
        "<benchmarks>/{dataset}/sharing/{cost}/derive.tsv"
    params:
        settings=lambda wildcards: f"{flags('derive')} --max-evaluations {wildcards.cost}",


use rule train as train_sharing with:
    input:
        latents="<results>/{dataset}/latents.h5ad",
        hierarchy="<results>/{dataset}/sharing/{cost}/hierarchy.json",
    output:
        model="<results>/{dataset}/sharing/{cost}/model.pt",
        training="<results>/{dataset}/sharing/{cost}/training.parquet",
    log:
        "<logs>/{dataset}/sharing/{cost}/train.log",
    benchmark:
        "<benchmarks>/{dataset}/sharing/{cost}/train.tsv"


rule benchmark_sharing:
    """Generates cells in several ways with a model of one cost, and compares them with held-out ones."""
    input:
        model="<results>/{dataset}/sharing/{cost}/model.pt",
        flat_model="<results>/{dataset}/flat/model.pt",
        codec="<results>/{dataset}/codec.pt",
        cells="<results>/{dataset}/cells.h5ad",
    output:
        table="<results>/{dataset}/sharing/{cost}/sharing.parquet",
    log:
        "<logs>/{dataset}/sharing/{cost}/benchmark-sharing.log",
    benchmark:
        "<benchmarks>/{dataset}/sharing/{cost}/benchmark-sharing.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        gpu=N_GPUS,
        mem_mb=memory_mb(8000),
        runtime=lambda wildcards, attempt: 240 * attempt,
        device=config["device"],
    params:
        n_steps=config["generate"]["n_steps"],
        n_seeds=config["sharing"]["n_seeds"],
        seed=seed_of,
        code=fingerprint("benchmark_sharing"),
    shell:
        "branchgen benchmark-sharing --model {input.model:q} --flat-model {input.flat_model:q}"
        " --codec {input.codec:q} --cells {input.cells:q} --output-table {output.table:q}"
        " --n-steps {params.n_steps} --n-seeds {params.n_seeds}"
        " --seed {params.seed} --device {resources.device} > {log:q} 2>&1"


rule plot_sharing:
    """Draws quality against cost, by the way cells are handed over."""
    input:
        tables=collect("<results>/{{dataset}}/sharing/{cost}/sharing.parquet", cost=config["sharing"]["costs"]),
    output:
        figure=report(
            f"<results>/{{dataset}}/figures/sharing.{FORMAT}",
            caption="../report/sharing.rst",
            category="Hierarchy",
            labels={"dataset": "{dataset}", "figure": "what sharing costs"},
        ),
        table="<results>/{dataset}/sharing.parquet",
    log:
        "<logs>/{dataset}/plot-sharing.log",
    benchmark:
        "<benchmarks>/{dataset}/plot-sharing.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=30,
    params:
        settings=flags("plot"),
        code=fingerprint("plot_sharing"),
    shell:
        "branchgen plot-sharing --tables {input.tables:q} --output-figure {output.figure:q}"
        " --output-table {output.table:q} {params.settings} > {log:q} 2>&1"


rule sharing:
    """Everything about what sharing costs: for the command line."""
    input:
        collect(rules.plot_sharing.output, dataset=config["datasets"]),
    localrule: True
