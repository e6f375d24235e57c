"""
Simpler generators, and their comparison with branchgen over datasets and seeds.

Every run of the benchmark is the workflow itself, with another seed and in another folder.
"""


rule baseline_latent:
    """Draws cells in the codec's latent space: from a Gaussian per class, or anew from the training cells."""
    input:
        latents="<results>/{dataset}/latents.h5ad",
        codec="<results>/{dataset}/codec.pt",
    output:
        generated="<results>/{dataset}/{method}/generated.h5ad",
    log:
        "<logs>/{dataset}/{method}/baseline.log",
    benchmark:
        "<benchmarks>/{dataset}/{method}/baseline.tsv"
    wildcard_constraints:
        method="codec|gauss",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory_mb(4000),
        runtime=60,
    params:
        settings=flags("baseline"),
        seed=seed_of,
        code=fingerprint("baseline"),
    shell:
        "branchgen baseline --method {wildcards.method} --latents {input.latents:q} --codec {input.codec:q}"
        " --output-generated {output.generated:q}"
        " --seed {params.seed} --device cpu {params.settings} > {log:q} 2>&1"


rule baseline_scvi:
    """Draws cells from a mixture per class in the latent space of scVI."""
    input:
        cells="<results>/{dataset}/cells.h5ad",
    output:
        generated="<results>/{dataset}/scvi/generated.h5ad",
    log:
        "<logs>/{dataset}/scvi/baseline.log",
    benchmark:
        "<benchmarks>/{dataset}/scvi/baseline.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        gpu=N_GPUS,
        mem_mb=memory_mb(4000),
        runtime=lambda wildcards, attempt: 240 * attempt,
        device=config["device"],
    params:
        settings=flags("baseline"),
        seed=seed_of,
        code=fingerprint("baseline"),
    shell:
        "branchgen baseline --method scvi --cells {input.cells:q} --output-generated {output.generated:q}"
        " --seed {params.seed} --device {resources.device} {params.settings} > {log:q} 2>&1"


use rule derive as derive_flat with:
    input:
        cells="<results>/{dataset}/cells.h5ad",
        latents="<results>/{dataset}/latents.h5ad",
    output:
        hierarchy="<results>/{dataset}/flat/hierarchy.json",
        newick="<results>/{dataset}/flat/hierarchy.nwk",
        divergence="<results>/{dataset}/flat/divergence.parquet",
    log:
        "<logs>/{dataset}/flat/derive.log",
    benchmark:
        "<benchmarks>/{dataset}/flat/derive.tsv"
    params:
        tree="--flat",


use rule train as train_flat with:
    input:
        latents="<results>/{dataset}/latents.h5ad",
        hierarchy="<results>/{dataset}/flat/hierarchy.json",
    output:
        model="<results>/{dataset}/flat/model.pt",
        training="<results>/{dataset}/flat/training.parquet",
    log:
        "<logs>/{dataset}/flat/train.log",
    benchmark:
        "<benchmarks>/{dataset}/flat/train.tsv"


use rule generate as generate_flat with:
    input:
        model="<results>/{dataset}/flat/model.pt",
        codec="<results>/{dataset}/codec.pt",
    output:
        generated="<results>/{dataset}/flat/generated.h5ad",
    log:
        "<logs>/{dataset}/flat/generate.log",
    benchmark:
        "<benchmarks>/{dataset}/flat/generate.tsv"


rule compare:
    """Compares branchgen with the baselines, over all datasets and seeds."""
    input:
        metrics=files_of_runs("<results>", "metrics.parquet"),
        verdicts=files_of_runs("<results>", "verdicts.parquet"),
        hierarchies=files_of_runs("<results>", "hierarchy.json"),
        times=files_of_runs("<benchmarks>", *(f"{step}.tsv" for step in TIMED)),
    output:
        table="<results>/benchmark.parquet",
        page=report(
            "<results>/benchmark.html",
            caption="../report/benchmark.rst",
            category="Benchmark",
        ),
    log:
        "<logs>/compare.log",
    benchmark:
        "<benchmarks>/compare.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=30,
    params:
        runs=lambda wildcards, input: folders_of_runs("--runs", input.metrics),
        times=lambda wildcards, input: folders_of_runs("--times", input.times[:: len(TIMED)]),
        code=fingerprint("compare"),
    shell:
        "branchgen compare {params.runs} {params.times}"
        " --output-table {output.table:q} --output-page {output.page:q} > {log:q} 2>&1"


rule benchmark:
    """Everything that the benchmark makes: for the command line."""
    input:
        rules.compare.output,
    localrule: True
