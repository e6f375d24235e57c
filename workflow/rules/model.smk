"""
The branched diffusion model, and the cells it generates.
"""


rule train:
    """Trains the branched diffusion model."""
    input:
        latents="<results>/{dataset}/latents.h5ad",
        hierarchy="<results>/{dataset}/hierarchy.json",
    output:
        model="<results>/{dataset}/model.pt",
        training="<results>/{dataset}/training.parquet",
    log:
        "<logs>/{dataset}/train.log",
    benchmark:
        "<benchmarks>/{dataset}/train.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        gpu=N_GPUS,
        mem_mb=memory_mb(4000),
        runtime=lambda wildcards, attempt: 720 * attempt,
        device=config["device"],
    params:
        # No output: Snakemake deletes those of an interrupted job, and training would begin anew.
        checkpoints=lambda wildcards, output: f"{os.path.dirname(output.model)}/checkpoints",
        settings=flags("train"),
        seed=seed_of,
        code=fingerprint("train"),
    shell:
        # Not by a parameter: a model need not be trained anew on another number of GPUs.
        "$([ {resources.gpu} -gt 1 ] && echo torchrun --standalone --nproc-per-node {resources.gpu} -m) "
        "branchgen train --latents {input.latents:q} --hierarchy {input.hierarchy:q}"
        " --output-model {output.model:q} --output-training {output.training:q} --checkpoints {params.checkpoints:q}"
        " --seed {params.seed} --device {resources.device} {params.settings} > {log:q} 2>&1"


rule generate:
    """Generates cells."""
    input:
        model="<results>/{dataset}/model.pt",
        codec="<results>/{dataset}/codec.pt",
    output:
        generated="<results>/{dataset}/generated.h5ad",
    log:
        "<logs>/{dataset}/generate.log",
    benchmark:
        "<benchmarks>/{dataset}/generate.tsv"
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        gpu=N_GPUS,
        mem_mb=memory_mb(4000),
        runtime=lambda wildcards, attempt: 120 * attempt,
        device=config["device"],
    params:
        settings=flags("generate"),
        seed=seed_of,
        code=fingerprint("generate"),
    shell:
        "branchgen generate --model {input.model:q} --codec {input.codec:q} --output-generated {output.generated:q}"
        " --seed {params.seed} --device {resources.device} {params.settings} > {log:q} 2>&1"


if config["generate"]["n_shards"] > 1:

    ruleorder: gather > generate

    use rule generate as generate_shard with:
        output:
            generated=temp("<results>/{dataset}/shards/{shard}.h5ad"),
        log:
            "<logs>/{dataset}/shards/{shard}.log",
        benchmark:
            "<benchmarks>/{dataset}/shards/{shard}.tsv"
        wildcard_constraints:
            dataset=OF_DATASETS,
            shard="[0-9]+",
        params:
            settings=lambda wildcards: f"{flags('generate')} --shard {wildcards.shard}",

    rule gather:
        """Puts the shards of generated cells in one file."""
        input:
            shards=collect(
                "<results>/{{dataset}}/shards/{shard}.h5ad", shard=range(1, config["generate"]["n_shards"] + 1)
            ),
        output:
            generated="<results>/{dataset}/generated.h5ad",
        log:
            "<logs>/{dataset}/gather.log",
        benchmark:
            "<benchmarks>/{dataset}/gather.tsv"
        wildcard_constraints:
            dataset=OF_DATASETS,
        conda:
            "../../environment.yml"
        resources:
            mem_mb=memory_mb(2000),
            runtime=lambda wildcards, attempt: 120 * attempt,
        params:
            code=fingerprint("gather"),
        shell:
            "branchgen gather --shards {input.shards:q} --output-generated {output.generated:q} > {log:q} 2>&1"
