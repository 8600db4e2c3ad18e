# syntax=docker/dockerfile:1
# adlightning for CUDA: docker build -t adlightning .   (docs/scaling.md says how to run it)
# With optional dependencies: docker build -t adlightning --build-arg EXTRAS=export,audio,lsun,cluster .
# torch brings its own CUDA libraries: the base image says which driver the host needs (CUDA 13.0: 580 or newer).
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

# torch.compile (CompileNetworks) compiles with g++ on a CPU, with gcc and Python's headers on a GPU.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3.12 python3.12-venv python3.12-dev g++ \
    && rm -rf /var/lib/apt/lists/* \
    && python3.12 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1

# Dependencies at the versions of constraints.txt, in a layer that a change of source leaves as it is.
# EXTRAS: names of optional dependencies in pyproject.toml, with commas between them.
WORKDIR /opt/adlightning
ARG EXTRAS=""
COPY pyproject.toml constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import os, tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); extras = filter(None, os.environ['EXTRAS'].split(',')); print(*p['build-system']['requires'], *p['project']['dependencies'], *(d for e in extras for d in p['project']['optional-dependencies'][e.strip()]), sep='\n')" > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt

# The wheel, with configs and sweeps in it: it is built and installed.
COPY README.md LICENSE hatch_build.py ./
COPY adlightning adlightning
COPY configs configs
COPY sweeps sweeps
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

# Any user may run it (docker run --user): home and work folder are open, the work folder's data and runs are mounted.
RUN useradd --uid 10001 --create-home adlightning \
    && mkdir --parents /workspace/data /workspace/runs \
    && chmod 1777 /home/adlightning /workspace /workspace/data /workspace/runs
ENV HOME=/home/adlightning
USER adlightning
WORKDIR /workspace

ENTRYPOINT ["python", "-m", "adlightning"]
CMD ["--help"]
