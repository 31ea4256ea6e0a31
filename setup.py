"""Packaging of poise_jax: what it needs, and nothing else."""

import setuptools

setuptools.setup(
    name="poise_jax",
    version="0.1.0",
    description=(
        "Discovers policy-optimisation algorithms for language models, and"
        " measures whether a discovery holds."
    ),
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["poise_jax", "poise_jax.*"]),
    package_data={
        "poise_jax": [
            "candidates/catalogue.npz",
            "models/embedded_policy/*",
            "models/embedded_policies/*/*",
            "py.typed",
        ]
    },
    install_requires=[
        "absl-py>=2.1",
        "chex>=0.1.90",
        "flatbuffers>=25.2",
        "flax>=0.12",
        "google-genai>=3.4",
        "jax>=0.10",
        "jaxtyping>=0.3",
        "jinja2>=3.1.6",
        "math-verify>=0.9",
        "ml_collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.11",
        "plotly>=6.0",
        "pydantic>=2.10",
        "pyseccomp>=0.1.2; sys_platform == 'linux'",
        "rich>=13.9",
        "safetensors>=0.8",
        "scikit-learn>=1.6",
        "scipy>=1.14",
        "SQLAlchemy>=2.0",
        "tenacity>=9.0",
        "tokenizers>=0.21",
        "transformers>=4.50",
    ],
    extras_require={
        "dev": [
            "beartype>=0.20",
            "hypothesis>=6.120",
            "import-linter>=2.1",
            "pre-commit>=4.0",
            "psutil>=6.0",
            "pyarrow>=17.0",
            "pyink>=24.10",
            "pytest>=8.3",
            "pytest-xdist>=3.8",
            "ruff>=0.9",
            "tensorboardX>=2.6",
            "wandb>=0.19",
        ],
        "benchmarks": ["datasets>=3.0", "pyarrow>=17.0"],
        "notebooks": ["pandas>=2.0"],
        "tensorboard": ["tensorboardX>=2.6"],
        "wandb": ["wandb>=0.19"],
        "bench": ["torch>=2.5", "psutil>=6.0"],
        "ray": ["ray>=2.40"],
    },
)
