# qsmbids as a BIDS App. It runs without root, without a network, on a read-only root and under any user id:
# whatever it writes goes to the output and the work directory. How to build and run it: docker/README.md
FROM docker.io/library/debian:bookworm-slim AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf/*-old /var/log/*
# A cache that cannot be written is copied into the work directory at start (qsmbids/cli/environment.py). Its kernels
# are for a family of processors, as those for the build machine alone would be compiled anew on any other.
ARG KERNEL_CPU=x86-64-v2
ENV PATH=/opt/qsmbids/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    LOGNAME=qsmbids \
    PYTHONNOUSERSITE=1 \
    NO_ET=1 \
    NIPYPE_NO_ET=1 \
    OMP_NUM_THREADS=1 \
    NUMBA_CPU_NAME=$KERNEL_CPU \
    NUMBA_CPU_FEATURES= \
    NUMBA_CACHE_DIR=/opt/qsmbids/cache/numba \
    MPLCONFIGDIR=/opt/qsmbids/cache/matplotlib \
    TEMPLATEFLOW_HOME=/opt/qsmbids/templateflow \
    TEMPLATEFLOW_AUTOUPDATE=off

FROM base AS builder
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
COPY . /src
# Where PyPI alone would give torch with several GB of CUDA: https://download.pytorch.org/whl/cpu
ARG TORCH_INDEX=
RUN python3 -m venv /opt/qsmbids \
 && pip install --no-cache-dir --no-compile ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
      -c /src/constraints.txt /src \
 && pip uninstall --yes pip setuptools
# Bytecode is checked against no source: a read-only image cannot compile again, and dates may change on the way.
# torch has 200 MB of headers and tests, some of them for a later Python.
RUN find /opt/qsmbids/lib -type d -name tests -prune -exec rm -rf {} + \
 && rm -rf /opt/qsmbids/lib/python3*/site-packages/torch/include /opt/qsmbids/lib/python3*/site-packages/torch/test \
 && find /opt/qsmbids/lib/python3*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete \
 && python -m compileall -q --invalidation-mode unchecked-hash -x '/torch/testing/_internal/' /opt/qsmbids/lib
# A real run fills the caches: every kernel is compiled here, none on the user's machine. Networks have none.
RUN qsmbids /src/data/testbids /tmp/out participant --participant-label 01 02 03 -w /tmp/work \
      --inversion $(python -c 'from qsmbids.core.methods import INVERSION as I; print(*(n for n in I if not I[n].weights))') \
 && chmod -R a+rX /opt/qsmbids

FROM base
LABEL org.opencontainers.image.title=qsmbids \
      org.opencontainers.image.description="Quantitative susceptibility mapping for BIDS data sets" \
      org.opencontainers.image.licenses=Apache-2.0
# Goes into the sidecars of what the image makes.
ARG TAG=qsmbids
ENV QSMBIDS_CONTAINER_TAG=$TAG
# Places to mount folders at: a read-only root has no room for new ones.
RUN useradd --uid 1000 --home-dir /tmp --no-create-home qsmbids && mkdir /data /out /work
COPY --from=builder /opt/qsmbids /opt/qsmbids
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["qsmbids"]
