# A container engine and the images for the tests that need them, as far as they can be had. To be sourced.
#
# start_engine    uses the one that runs, or starts one where this is root on Debian; fails where there is none to be had
# build_images    makes the images: none can be pulled here, so each is made of what Debian, Go's and Python's packages have
# stop_engine     stops the one that start_engine has started
#
# Containers are on the host's network or on internal ones, so the engine needs no firewall and no bridge of its own.

engine_pid=
engine_log=${TMPDIR:-/tmp}/reconnect-ci-dockerd.log

start_engine() {
    if command -v docker >/dev/null && docker version >/dev/null 2>&1; then return 0; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 1; fi
    if ! command -v dockerd >/dev/null || ! command -v debootstrap >/dev/null || ! command -v docker-compose >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends docker.io debootstrap >/dev/null
        # Debian 13 has the client in a package of its own.
        command -v docker >/dev/null \
            || DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends docker-cli >/dev/null
        # To bring compose.yaml up; the tests that want to are skipped without it.
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends docker-compose >/dev/null || true
    fi
    dockerd --iptables=false --ip6tables=false --bridge=none >"$engine_log" 2>&1 &
    engine_pid=$!
    for _ in $(seq 100); do
        if docker version >/dev/null 2>&1; then return 0; fi
        if ! kill -0 "$engine_pid" 2>/dev/null; then break; fi
        sleep 0.3
    done
    echo "dockerd does not answer. Its last lines:" >&2
    tail -n 20 "$engine_log" >&2
    return 1
}

stop_engine() {
    if [ -n "$engine_pid" ]; then
        kill "$engine_pid" 2>/dev/null || true
        wait "$engine_pid" || true
        engine_pid=
    fi
}

build_images() {
    local work build=(docker build --quiet --network host)
    work=$(mktemp -d)
    # What is there already is what this would make, and takes minutes.
    if ! docker image inspect localhost/reconnect-base >/dev/null 2>&1; then build_base "$work/base"; fi
    CGO_ENABLED=0 GOBIN="$work" go install -ldflags "-s -w -X github.com/Shopify/toxiproxy/v2.Version=2.12.0" \
        github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0
    printf 'FROM scratch\nCOPY server /toxiproxy\nENTRYPOINT ["/toxiproxy"]\nCMD ["-host=0.0.0.0"]\n' >"$work/Dockerfile"
    docker build --quiet --tag localhost/toxiproxy:2.12.0 "$work"
    rm -rf "$work"
    build+=(--build-arg BASE=localhost/reconnect-base ${PIP_INDEX_URL:+--build-arg PIP_INDEX_URL})
    "${build[@]}" --tag localhost/reconnect-proxy .
    "${build[@]}" --tag localhost/reconnect-harness --file deploy/harness.Dockerfile .
}

build_base() {
    local certificates=/etc/ssl/certs/ca-certificates.crt release
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$release" "$1" >"$1.log" \
        || { tail -n 20 "$1.log" >&2; return 1; }
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
    # Whom this machine trusts on its way to a package index, the build in a container must trust too.
    cp "$certificates" "$1$certificates"
    tar -C "$1" -c . | docker import --change "ENV PIP_CERT=$certificates" - localhost/reconnect-base
}
