# The one image of the product: service, rebuild Job, demo and operator.
#   docker build .               CPU (the target "cpu")
#   docker build --target gpu .  with FAISS for NVIDIA GPUs
# Runs as user 65532 on a read-only root file system; /tmp and the data volume are all it writes to.

FROM debian:bookworm-slim AS python
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*


FROM python AS build
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1 \
    PIP_NO_DEPS=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
# pip stays outside the environment that is shipped.
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/venv


FROM build AS application
COPY requirements/dev.txt /tmp/dev.txt
# The build backend alone, at the versions and hashes of the developers' environment.
RUN awk '/^[a-z]/ { wanted = /^(hatchling|packaging|pathspec|pluggy|trove-classifiers)==/ } wanted' /tmp/dev.txt \
      >/tmp/backend.txt \
 && /opt/tools/bin/pip install --require-hashes --requirement /tmp/backend.txt
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY buffer_client buffer_client
COPY buffer_service buffer_service
COPY operator operator
RUN /opt/tools/bin/pip wheel --no-build-isolation --wheel-dir /wheel . \
 && /opt/tools/bin/pip --python /opt/venv/bin/python install --prefix /opt/application /wheel/*.whl \
 && python3 -m compileall -q --invalidation-mode unchecked-hash -s /opt/application -p /opt/venv /opt/application


FROM build AS environment-cpu
COPY requirements/image-cpu.txt /tmp/requirements.txt
RUN /opt/tools/bin/pip --python /opt/venv/bin/python install --require-hashes --requirement /tmp/requirements.txt \
 && find /opt/venv -type d -name tests -prune -exec rm -r {} + \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv


FROM python AS runtime
LABEL org.opencontainers.image.title="experience-buffer" \
      org.opencontainers.image.description="Memory for models that learn while they serve" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="debian:bookworm-slim"
RUN groupadd --gid 65532 xbuf \
 && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin xbuf
ENV HOME=/tmp \
    PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 65532:65532
EXPOSE 8080
CMD ["xbuf", "serve"]


# The environment is a layer of its own below the application, so that a changed source moves little.
FROM runtime AS cpu
COPY --from=environment-cpu /opt/venv /opt/venv
COPY configs /etc/experience-buffer
COPY --from=application /opt/application /opt/venv


FROM build AS environment-gpu
COPY requirements/image-gpu.txt /tmp/requirements.txt
RUN /opt/tools/bin/pip --python /opt/venv/bin/python install --require-hashes --requirement /tmp/requirements.txt \
 && find /opt/venv -type d -name tests -prune -exec rm -r {} + \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv


FROM runtime AS gpu
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=environment-gpu /opt/venv /opt/venv
COPY configs /etc/experience-buffer
COPY --from=application /opt/application /opt/venv


FROM cpu
