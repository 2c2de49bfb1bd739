# The proxy: docker build -t reconnect-proxy .
#
# Configured by variables (RECONNECT_PROXY_UPSTREAM=ws://HOST:PORT …) or a file (RECONNECT_PROXY_CONFIG): docs/containers.md.
# BASE is any image with python3 of 3.11 or later and its venv module.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# Where a package index of one's own is to be used: --build-arg PIP_INDEX_URL=…
ARG PIP_INDEX_URL
WORKDIR /src
COPY constraints.txt ./
# The versions that CI tests, of what builds the wheel too.
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/reconnect-proxy
COPY pyproject.toml README.md LICENSE ./
COPY reconnect_proxy reconnect_proxy
COPY harness harness
COPY scenarios scenarios
RUN /opt/reconnect-proxy/bin/pip wheel --quiet --no-deps --wheel-dir /dist . \
    && /opt/reconnect-proxy/bin/pip install --quiet /dist/*.whl \
    && /opt/reconnect-proxy/bin/pip uninstall --quiet --yes pip setuptools

FROM ${BASE}
COPY --from=build /opt/reconnect-proxy /opt/reconnect-proxy
ENV PATH=/opt/reconnect-proxy/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    RECONNECT_PROXY_LISTEN=0.0.0.0:9124 \
    RECONNECT_PROXY_ADMIN=127.0.0.1:9125 \
    RECONNECT_PROXY_LOG_FORMAT=json
# A number, so that an orchestrator can tell that it is not root.
USER 10001:10001
EXPOSE 9124 9125
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["reconnect-proxy", "ready"]
ENTRYPOINT ["reconnect-proxy"]
CMD ["serve"]
