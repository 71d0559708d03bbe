#!/bin/sh
# @ABOUT@ All options: ./@FILE@ --help
# Written by llm-installer; write it again with: llm-installer update DIR
script=$0
while [ -L "$script" ]; do
    link=$(readlink "$script")
    case $link in
        /*) script=$link ;;
        *) script=$(dirname "$script")/$link ;;
    esac
done
model_dir=$(CDPATH='' cd -P -- "$(dirname -- "$script")" && pwd) || exit 1
python=@PYTHON@
python=${LLM_PYTHON:-$python}
if ! [ -x "$(command -v "$python")" ]; then
    echo "The Python that this model was installed with ($python) is missing; run:" @PROGRAM@ "update \"$model_dir\"" >&2
    exit 1
fi
PYTHONSAFEPATH=1 exec "$python" -m llm_installer @COMMAND@ --model-path "$model_dir" "$@"
