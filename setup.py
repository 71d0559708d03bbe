"""Packaging: what is installed where, what it needs, and the command it brings."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION_FILE = HERE / "llm_installer" / "core" / "version.py"
VERSION = re.search(r'^__version__ = "(.+)"$', VERSION_FILE.read_text("utf-8"), re.M)
assert VERSION, f"{VERSION_FILE} does not say __version__"

# Lower bounds only. The launcher adds constraints.txt, the exact versions that were tested together.
REQUIRES = [
    "accelerate>=1.12",
    "bitsandbytes>=0.48",
    "click>=8.1",
    "datasets>=4.4",
    "filelock>=4.1",  # lock_descriptor, and locks that a forked child does not keep
    "httpx2>=2.0",
    "huggingface_hub>=2.0",
    "jinja2>=3.1",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "orjson>=3.10",
    "packaging>=24.0",
    "peft>=0.19",
    "pillow>=10.0",
    "pyarrow>=16.0",
    "pyyaml>=6.0",
    "rich>=13.0",
    "safetensors>=0.5",
    "sentencepiece>=0.2",  # tokenizers of hub models that come without tokenizer.json
    "tensorboard>=2.16",
    "tokenizers>=0.22",
    "torch>=2.8",
    "transformers>=5.20",
    "typing_extensions>=4.10",
    "xxhash>=3.4",
]
EXTRAS = {
    "gpu": ["liger-kernel>=0.8.5"],  # the first that leaves out the gradient of a frozen norm
    "eval": ["rouge-score>=0.1.2", "sacrebleu>=2.4"],  # ROUGE, BLEU and chrF of `eval`
    "wandb": ["wandb>=0.19"],
    "mlflow": ["mlflow-skinny>=3.0"],
    "gguf": ["gguf>=0.19", "regex>=2024.5"],  # regex comes with transformers, too
    "serve": ["fastapi>=0.115", "starlette>=0.40", "uvicorn>=0.30"],
    "studio": [
        "alembic>=1.14",
        "argon2-cffi>=23.1",
        "fastapi>=0.115",
        "markupsafe>=2.1",
        "nbformat>=5.10",
        "psycopg[binary]>=3.2",
        "pydantic>=2.10",
        "python-multipart>=0.0.20",
        "sqlalchemy>=2.1",
        "starlette>=0.40",
        "uvicorn>=0.30",
    ],
    "json": ["llguidance>=1.0"],  # answers of `serve` that obey a schema, and tools that must be called
    "dev": [
        "alembic>=1.14",
        "argon2-cffi>=23.1",
        "fastapi>=0.115",
        "gguf>=0.19",
        "hypothesis>=6.100",
        "ipykernel>=6.29",
        "llguidance>=1.0",
        "mypy>=1.18",
        "nbclient>=0.10",
        "markupsafe>=2.1",
        "nbformat>=5.10",
        "openai>=3.0",
        "playwright>=1.50",
        "psutil>=6",
        "psycopg[binary]>=3.2",
        "pydantic>=2.10",
        "pytest>=8.4",
        "pytest-timeout>=2.4",
        "pytest-xdist>=3.6",
        "python-multipart>=0.0.20",
        "rouge-score>=0.1.2",
        "ruff>=0.14",
        "sacrebleu>=2.4",
        "sqlalchemy>=2.1",
        "schemathesis>=4.0 ; python_version >= '3.11'",  # newer ones do not run on 3.10
        "starlette>=0.40",
        "types-PyYAML>=6.0",
        "uvicorn>=0.30",
    ],
}

setup(
    name="llm_installer",
    version=VERSION[1],
    description="Give a model its own folder, train a LoRA on your data there, and never lose what it learned.",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    # handlers/ and templates/ lie at the top of the checkout, to be seen; installed, they are part of the package.
    package_dir={
        "llm_installer": "llm_installer",
        "llm_installer.handlers": "handlers",
        "llm_installer.templates": "templates",
    },
    packages=[
        *find_packages(include=["llm_installer", "llm_installer.*"]),
        "llm_installer.handlers",
        "llm_installer.templates",
    ],
    package_data={
        "llm_installer": [
            "py.typed",
            "install/tiny/**/*",
            "training/*.txt",
            "cli/help/*.md",
            "training/fast/cpu/native/*.[ch]",
            *(f"server/page/*.{kind}" for kind in ("html", "css", "js", "svg")),
            "studio/pages/templates/*.html",
            *(f"studio/pages/static/**/*.{kind}" for kind in ("css", "js", "svg", "txt")),
        ],
        "llm_installer.templates": ["*"],
    },
    exclude_package_data={"": ["**/*.pyc"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["llm-installer = llm_installer.__main__:main"]},
)
