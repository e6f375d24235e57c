"""
What the model says about the cells, how good its cells are, and the figures of both.
"""


rule analyse:
    """Samples the populations at the branch points and compares their children."""
    input:
        model="<results>/{dataset}/model.pt",
        codec="<results>/{dataset}/codec.pt",
        cells="<results>/{dataset}/cells.h5ad",
    output:
        branch_points="<results>/{dataset}/branch_points.h5ad",
        table="<results>/{dataset}/branch_points.parquet",
        genes="<results>/{dataset}/branch_genes.parquet",
        fates="<results>/{dataset}/fates.h5ad",
        separability="<results>/{dataset}/separability.parquet",
    log:
        "<logs>/{dataset}/analyse.log",
    benchmark:
        "<benchmarks>/{dataset}/analyse.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        gpu=N_GPUS,
        mem_mb=memory_mb(4000),
        runtime=lambda wildcards, attempt: 120 * attempt,
        device=config["device"],
    params:
        settings=flags("analyse"),
        seed=seed_of,
        code=fingerprint("analyse"),
    shell:
        "branchgen analyse --model {input.model:q} --codec {input.codec:q} --cells {input.cells:q}"
        " --output-branch-points {output.branch_points:q} --output-table {output.table:q}"
        " --output-genes {output.genes:q} --output-fates {output.fates:q}"
        " --output-separability {output.separability:q}"
        " --seed {params.seed} --device {resources.device} {params.settings} > {log:q} 2>&1"


rule plot_branch_points:
    """Draws the branch points, and sets a page of each."""
    input:
        hierarchy="<results>/{dataset}/hierarchy.json",
        branch_points="<results>/{dataset}/branch_points.h5ad",
        table="<results>/{dataset}/branch_points.parquet",
        genes="<results>/{dataset}/branch_genes.parquet",
        separability="<results>/{dataset}/separability.parquet",
    output:
        figure=report(
            f"<results>/{{dataset}}/figures/branch_points.{FORMAT}",
            caption="../report/branch_points.rst",
            category="Hierarchy",
            labels={"dataset": "{dataset}", "figure": "branch points"},
        ),
        page=report(
            "<results>/{dataset}/branch_points.html",
            caption="../report/branch_points_page.rst",
            category="Hierarchy",
            labels={"dataset": "{dataset}", "figure": "branch points, a page of each"},
        ),
    log:
        "<logs>/{dataset}/plot-branch-points.log",
    benchmark:
        "<benchmarks>/{dataset}/plot-branch-points.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=30,
    params:
        settings=flags("plot"),
        code=fingerprint("plot_branch_points"),
    shell:
        "branchgen plot-branch-points --hierarchy {input.hierarchy:q} --branch-points {input.branch_points:q}"
        " --table {input.table:q} --genes {input.genes:q} --separability {input.separability:q}"
        " --output-figure {output.figure:q} --output-page {output.page:q} {params.settings} > {log:q} 2>&1"


rule transmute:
    """Makes real cells of one class cells of another."""
    input:
        model="<results>/{dataset}/model.pt",
        codec="<results>/{dataset}/codec.pt",
        cells="<results>/{dataset}/cells.h5ad",
    output:
        transmuted="<results>/{dataset}/transmuted/{pair}.h5ad",
        changes="<results>/{dataset}/transmuted/{pair}.parquet",
    log:
        "<logs>/{dataset}/transmuted/{pair}/transmute.log",
    benchmark:
        "<benchmarks>/{dataset}/transmuted/{pair}/transmute.tsv"
    wildcard_constraints:
        pair="[^/]+",
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        gpu=N_GPUS,
        mem_mb=memory_mb(4000),
        runtime=lambda wildcards, attempt: 120 * attempt,
        device=config["device"],
    params:
        classes=classes_of_pair,
        settings=flags("transmute"),
        seed=seed_of,
        code=fingerprint("transmute"),
    shell:
        "branchgen transmute --model {input.model:q} --codec {input.codec:q} --cells {input.cells:q} {params.classes}"
        " --output-transmuted {output.transmuted:q} --output-changes {output.changes:q}"
        " --seed {params.seed} --device {resources.device} {params.settings} > {log:q} 2>&1"


rule plot_transmutation:
    """Draws what changed in transmuted cells, and what was kept."""
    input:
        changes="<results>/{dataset}/transmuted/{pair}.parquet",
    output:
        figure=report(
            f"<results>/{{dataset}}/figures/transmuted/{{pair}}.{FORMAT}",
            caption="../report/transmutation.rst",
            category="Transmutation",
            labels={"dataset": "{dataset}", "figure": "{pair}"},
        ),
    log:
        "<logs>/{dataset}/transmuted/{pair}/plot.log",
    benchmark:
        "<benchmarks>/{dataset}/transmuted/{pair}/plot.tsv"
    wildcard_constraints:
        pair="[^/]+",
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=30,
    params:
        classes=classes_of_pair,
        settings=flags("plot"),
        code=fingerprint("plot_transmutation"),
    shell:
        "branchgen plot-transmutation --changes {input.changes:q} {params.classes} --output-figure {output.figure:q}"
        " {params.settings} > {log:q} 2>&1"


rule evaluate:
    """Compares generated with held-out cells, beside the floor and the baselines."""
    input:
        generated="<results>/{dataset}/generated.h5ad",
        cells="<results>/{dataset}/cells.h5ad",
        hierarchy="<results>/{dataset}/hierarchy.json",
        baselines=lambda wildcards: [
            f"<results>/{wildcards.dataset}/{name}/generated.h5ad" for name in baselines_of(wildcards)
        ],
    output:
        metrics="<results>/{dataset}/metrics.parquet",
        verdicts="<results>/{dataset}/verdicts.parquet",
        genes="<results>/{dataset}/genes.parquet",
        fold_changes="<results>/{dataset}/fold_changes.parquet",
        correlations="<results>/{dataset}/correlations.parquet",
        embedding="<results>/{dataset}/embedding.parquet",
    log:
        "<logs>/{dataset}/evaluate.log",
    benchmark:
        "<benchmarks>/{dataset}/evaluate.tsv"
    conda:
        "../../environment.yml"
    threads: 4
    resources:
        mem_mb=memory_mb(8000),
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        baselines=lambda wildcards, input: named_files("--baselines", baselines_of(wildcards), input.baselines),
        settings=flags("evaluate"),
        seed=seed_of,
        code=fingerprint("evaluate"),
    shell:
        "branchgen evaluate --generated {input.generated:q} --cells {input.cells:q} --hierarchy {input.hierarchy:q}"
        " {params.baselines} --output-metrics {output.metrics:q} --output-verdicts {output.verdicts:q}"
        " --output-genes {output.genes:q} --output-fold-changes {output.fold_changes:q}"
        " --output-correlations {output.correlations:q} --output-embedding {output.embedding:q}"
        " --seed {params.seed} {params.settings} > {log:q} 2>&1"


rule plot:
    """Draws the figures of the report, and sets its table."""
    input:
        hierarchy="<results>/{dataset}/hierarchy.json",
        training="<results>/{dataset}/training.parquet",
        metrics="<results>/{dataset}/metrics.parquet",
        verdicts="<results>/{dataset}/verdicts.parquet",
        genes="<results>/{dataset}/genes.parquet",
        fold_changes="<results>/{dataset}/fold_changes.parquet",
        correlations="<results>/{dataset}/correlations.parquet",
        embedding="<results>/{dataset}/embedding.parquet",
    output:
        tree=report(
            f"<results>/{{dataset}}/figures/tree.{FORMAT}",
            caption="../report/tree.rst",
            category="Hierarchy",
            labels={"dataset": "{dataset}", "figure": "tree of the classes"},
        ),
        training=report(
            f"<results>/{{dataset}}/figures/training.{FORMAT}",
            caption="../report/training.rst",
            category="Model",
            labels={"dataset": "{dataset}", "figure": "training"},
        ),
        metrics=report(
            f"<results>/{{dataset}}/figures/metrics.{FORMAT}",
            caption="../report/metrics.rst",
            category="Generated cells",
            labels={"dataset": "{dataset}", "figure": "metrics against the floor"},
        ),
        page=report(
            "<results>/{dataset}/metrics.html",
            caption="../report/page.rst",
            category="Generated cells",
            labels={"dataset": "{dataset}", "figure": "metrics as tables"},
        ),
        verdicts=report(
            f"<results>/{{dataset}}/figures/verdicts.{FORMAT}",
            caption="../report/verdicts.rst",
            category="Generated cells",
            labels={"dataset": "{dataset}", "figure": "real or generated?"},
        ),
        gene_moments=report(
            f"<results>/{{dataset}}/figures/gene_moments.{FORMAT}",
            caption="../report/gene_moments.rst",
            category="Generated cells",
            labels={"dataset": "{dataset}", "figure": "variance and zeros of genes"},
        ),
        fold_changes=report(
            f"<results>/{{dataset}}/figures/fold_changes.{FORMAT}",
            caption="../report/fold_changes.rst",
            category="Generated cells",
            labels={"dataset": "{dataset}", "figure": "log-fold-changes at the branch points"},
        ),
        correlations=report(
            f"<results>/{{dataset}}/figures/correlations.{FORMAT}",
            caption="../report/correlations.rst",
            category="Generated cells",
            labels={"dataset": "{dataset}", "figure": "gene-gene correlations"},
        ),
        umap=report(
            f"<results>/{{dataset}}/figures/umap.{FORMAT}",
            caption="../report/umap.rst",
            category="Generated cells",
            labels={"dataset": "{dataset}", "figure": "UMAP"},
        ),
        umap_types=report(
            f"<results>/{{dataset}}/figures/umap_types.{FORMAT}",
            caption="../report/umap_types.rst",
            category="Generated cells",
            labels={"dataset": "{dataset}", "figure": "UMAP by cell type"},
        ),
    log:
        "<logs>/{dataset}/plot.log",
    benchmark:
        "<benchmarks>/{dataset}/plot.tsv"
    conda:
        "../../environment.yml"
    resources:
        mem_mb=memory_mb(2000),
        runtime=30,
    params:
        settings=flags("plot"),
        code=fingerprint("plot"),
    shell:
        "branchgen plot --hierarchy {input.hierarchy:q} --training {input.training:q}"
        " --metrics {input.metrics:q} --verdicts {input.verdicts:q} --genes {input.genes:q}"
        " --fold-changes {input.fold_changes:q} --correlations {input.correlations:q} --embedding {input.embedding:q}"
        " --output-tree {output.tree:q} --output-training {output.training:q} --output-metrics {output.metrics:q}"
        " --output-page {output.page:q} --output-verdicts {output.verdicts:q}"
        " --output-gene-moments {output.gene_moments:q} --output-fold-changes {output.fold_changes:q}"
        " --output-correlations {output.correlations:q}"
        " --output-umap {output.umap:q} --output-umap-types {output.umap_types:q}"
        " {params.settings} > {log:q} 2>&1"
