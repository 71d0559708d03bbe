#!/usr/bin/env bash
# Packs what a GPU machine without network needs, and runs it there: faults, tests, figures, in under 8 minutes.
#
#   benchmarks/gpu.sh pack OUT.tar.xz MODEL_DIR ALPACA.json     here, with pip; MODEL_DIR is a small Llama
#   tar xf OUT.tar.xz && gpu/run.sh                             there; results lie in gpu/results
#
# There must be on that machine: Python (PYTHON_VERSION, 3.12), torch for CUDA with triton, numpy, pyarrow, pandas,
# tokenizers, accelerate, safetensors, tensorboard, matplotlib, pytest with timeout, and what those bring.
# UNSLOTH is the PYTHONPATH of an environment of its own, where Unsloth is to be compared. DEVICE=cpu tries all out.
set -euo pipefail

PYTHON_VERSION="${PYTHON_VERSION:-3.12}"
WANTED=(transformers peft datasets huggingface_hub httpx2 httpcore2 truststore click rich liger-kernel trl dill
        multiprocess filelock markdown-it-py mdurl pygments h11 anyio idna certifi jinja2 pytest-timeout hypothesis
        sortedcontainers orjson xxhash bitsandbytes)
MOST=$((40 * 1000 * 1000))

pack() {
    local out model data work
    out="$(realpath -m "$1")" model="$(realpath "$2")" data="$(realpath "$3")"
    cd "$(dirname "$0")/.."
    work="$(mktemp -d)"
    trap "rm -rf '$work'" EXIT
    mkdir -p "$work/gpu/site" "$work/wheels"
    local get=("${PYTHON:-python3}" -m pip download -q --no-deps --only-binary :all: -c constraints.txt
        --python-version "$PYTHON_VERSION" -d "$work/wheels" --platform manylinux_2_28_x86_64
        --platform manylinux_2_24_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64)
    "${get[@]}" "${WANTED[@]}"
    "${PYTHON:-python3}" - "$work/wheels" "$work/gpu/site" <<'PYTHON'
import sys, zipfile
from pathlib import Path

for wheel in sorted(Path(sys.argv[1]).glob("*.whl")):
    with zipfile.ZipFile(wheel) as file:
        for name in file.namelist():
            library = name.startswith("bitsandbytes/libbitsandbytes")
            if library and not name.endswith(("cuda130.so", "cpu.so")):
                continue
            if "/tests/" in name or "/test/" in name:
                continue
            file.extract(name, sys.argv[2])
PYTHON
    git archive --prefix=gpu/repo/ HEAD | tar -x -C "$work"
    mkdir -p "$work/gpu/shared/models" "$work/gpu/shared/data/alpaca"
    cp -r "$model" "$work/gpu/shared/models/$(basename "$model")"
    cp "$data" "$work/gpu/shared/data/alpaca/"
    cp benchmarks/gpu.sh "$work/gpu/run.sh"
    chmod -R u+rwX "$work/gpu"
    XZ_OPT="${XZ_OPT:--T0 -6}" tar -cJf "$out" -C "$work" gpu
    local bytes
    bytes="$(stat -c %s "$out")"
    echo "$out: $((bytes / 1000000)) MB"
    if ((bytes > MOST)); then
        echo "That is more than $((MOST / 1000000)) MB" >&2
        return 1
    fi
}

step() { # seconds, name, command: what it says goes to results/NAME.txt, and its last lines here
    local limit="$1" name="$2" began=$SECONDS
    shift 2
    if timeout "$limit" "$@" >"$RESULTS/$name.txt" 2>&1; then said=done; else said="ended with $?"; fi
    echo "== $name: $said after $((SECONDS - began)) s"
    tail -n "${LINES_SHOWN:-12}" "$RESULTS/$name.txt" | cut -c1-200
}

run() {
    local here device data python="${PYTHON:-python3}"
    here="$(cd "$(dirname "$0")" && pwd)" device="${DEVICE:-cuda}"
    export RESULTS="$here/results" PYTHONPATH="$here/site:$here/repo" LLM_HOME="$here/home" PYTHONDONTWRITEBYTECODE=1
    export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
    mkdir -p "$RESULTS"
    cd "$here/repo"
    data="$(ls "$here"/shared/data/alpaca/*.json | head -1)"
    step "${IMPORT_LIMIT:-60}" imports "$python" -c "
import importlib, torch
for name in 'transformers peft datasets huggingface_hub liger_kernel trl orjson llm_installer.train_lora'.split():
    try:
        print(name, getattr(importlib.import_module(name), '__version__', 'there'))
    except Exception as error:
        print(name, 'CANNOT BE IMPORTED:', error)
print('torch', torch.__version__, torch.version.cuda, torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU')"
    if [ "$device" = cpu ]; then
        step 120 questions "$python" benchmarks/gpu_questions.py --device cpu
        step 240 tiny "$python" benchmarks/compare_cuda.py --device cpu --shape tiny --work alpaca --data "$data" \
            --steps 4 --length 64 --tools "ours,ours fp8,trl" --repeat 1 --json "$RESULTS/tiny.json"
        return
    fi
    step 150 faults "$python" -m pytest -q -m cuda -p no:cacheprovider tests
    step 60 questions "$python" benchmarks/gpu_questions.py
    local compare=("$python" benchmarks/compare_cuda.py --data "$data")
    local tools="ours,trl${UNSLOTH:+,unsloth}" unsloth=(--unsloth "${UNSLOTH:-}")
    LINES_SHOWN=40 step 45 profile-0.5b "${compare[@]}" --shape 0.5b --work alpaca --steps 8 --tools ours --profile \
        --json "$RESULTS/profile-0.5b.json"
    LINES_SHOWN=40 step 45 profile-long "${compare[@]}" --shape 0.5b --work long --steps 6 --tools ours --profile \
        --json "$RESULTS/profile-long.json"
    step 90 alpaca-0.5b "${compare[@]}" --shape 0.5b --work alpaca --steps 40 --tools "$tools" "${unsloth[@]}" \
        --repeat "${REPEAT:-1}" --json "$RESULTS/alpaca-0.5b.json"
    step 140 long-8b "${compare[@]}" --shape 8b --work long --steps 10 --tools "ours,ours fp8,${tools#ours,}" \
        "${unsloth[@]}" --repeat "${REPEAT:-1}" --json "$RESULTS/long-8b.json"
    step 60 command "$python" -m llm_installer quickstart
}

case "${1:-run}" in
    pack) shift; pack "$@" ;;
    *) run ;;
esac
