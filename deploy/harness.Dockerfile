# The toolkit: docker build -t localhost/reconnect-harness -f deploy/harness.Dockerfile .
#
# What a scenario starts as its upstream in a container, and the mock upstream and the load of compose.yaml. It is kept out
# of the proxy's image, which needs a tenth of it.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG PIP_INDEX_URL
# load: with locust, for compose.yaml.
ARG EXTRAS=harness,load
WORKDIR /src
COPY constraints.txt ./
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/reconnect-harness
COPY pyproject.toml README.md LICENSE ./
COPY reconnect_proxy reconnect_proxy
COPY harness harness
COPY scenarios scenarios
RUN /opt/reconnect-harness/bin/pip install --quiet ".[${EXTRAS}]" \
    && /opt/reconnect-harness/bin/pip uninstall --quiet --yes pip setuptools

FROM ${BASE}
COPY --from=build /opt/reconnect-harness /opt/reconnect-harness
ENV PATH=/opt/reconnect-harness/bin:${PATH} PYTHONUNBUFFERED=1
WORKDIR /work
# What `locust` finds by itself.
COPY harness/reconnect_harness/load/locustfile.py ./
USER 10001:10001
CMD ["reconnect-harness", "--help"]
