#!/bin/sh
# What the Makefile needs before anything of ours can run.
#   setup.sh venv    .venv with the packages of requirements-dev.txt, by uv where it is installed, else by venv and pip
#   setup.sh local   .venv with the packages of requirements-local.txt, and what `kafka` installs
#   setup.sh kafka   Java and Maven for the local broker, and Kafka's jars
#   setup.sh s3      the same for the S3 server that tests start, and its jars
#   setup.sh prometheus   Prometheus and Alertmanager, which observe a local stack; skipped if they cannot be installed
#   setup.sh manifests    kustomize and kube-score, by Go, into .local/tools, for the manifests' tests
#   setup.sh cluster      etcd, and the tools that build a Kubernetes control plane, for make test-kubernetes
#   setup.sh docker       a Docker engine, compose, and mmdebstrap for base images; only for tests of containers
#   setup.sh network  iproute2, for a test with network namespaces of its own
#   setup.sh chromium     a headless browser, in which the status page is tested; skipped if it cannot be installed
# On Debian and Ubuntu, as root or with passwordless sudo, missing packages are installed; elsewhere a message says how.
set -eu

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

may_install() { # sets how to become root; false if that needs a password
    if ! command -v apt-get >/dev/null; then return 1; fi
    if [ "$(id -u)" = 0 ]; then as=""; elif sudo -n true 2>/dev/null; then as="sudo -n"; else return 1; fi
}

packages() { # packages PACKAGE...: install them or stop
    line="apt-get install -y --no-install-recommends $*"
    if command -v apt-get >/dev/null; then
        may_install || fail "missing; run: sudo $line"
        say "installing $* (with apt-get)"
        $as apt-get update -q >&2
        $as env DEBIAN_FRONTEND=noninteractive $line >&2
    else
        fail "missing: on Debian or Ubuntu \`$line\`, on macOS \`brew install openjdk maven python@3.12\`; then again"
    fi
}

# functions of this script have the names of programs
installed() { (unset -f "$1"; command -v "$1" >/dev/null); }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() { # prints the first Python that is new enough
    for python in ${PYTHON:-} python3 python python3.13 python3.12 python3.11; do
        if new_enough "$python"; then printf '%s' "$python"; return; fi
    done
}

make_venv() {
    if [ -x .venv/bin/python ] && ! new_enough .venv/bin/python; then
        fail ".venv is older than Python 3.11 (or broken); \`make clean\` removes it"
    fi
    python=$(find_python)
    if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then
        [ -x .venv/bin/python ] || uv venv --quiet --python "${python:->=3.11}" .venv
    else
        [ -n "$python" ] || fail "Python 3.11 or newer is needed; found: $(python3 --version 2>&1 || true)"
        if ! [ -x .venv/bin/pip ]; then
            "$python" -c 'import ensurepip, venv' 2>/dev/null || packages python3-venv
            "$python" -m venv --clear .venv
        fi
    fi
}

install_packages() { # install_packages FILE
    if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then
        uv pip sync --quiet --python .venv/bin/python --require-hashes "$1"
        uv pip install --quiet --python .venv/bin/python --no-deps -e .
    else
        .venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r "$1"
        .venv/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
    fi
}

venv() {
    make_venv
    install_packages requirements-dev.txt
}

local_stack() { # Maven works while pip does
    make_venv
    kafka_tools
    install_packages requirements-local.txt &
    kafka
    wait "$!"
}

java_17() {
    # macOS has a `java` that only says where to get one
    if ! java -version >/dev/null 2>&1; then packages default-jre-headless; fi
    version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 17 ] || fail "Java 17 or newer is needed; \`java\` is version ${version:-unknown}"
}

kafka_tools() {
    if [ -n "${GOODFAITH_KAFKA:-}" ] || [ "${GOODFAITH_STACK:-}" = docker ]; then return; fi
    java_17
    if ! .venv/bin/python -c 'import sys; from deploy.local.jars import KAFKA; sys.exit(not KAFKA.folder.is_dir())' \
        && ! command -v mvn >/dev/null; then packages maven; fi
}

kafka() {
    kafka_tools
    if [ -n "${GOODFAITH_KAFKA:-}" ] || [ "${GOODFAITH_STACK:-}" = docker ]; then return; fi
    .venv/bin/python -m deploy.local.jars # needs no packages
}

s3() {
    java_17
    .venv/bin/python -c 'import sys; from deploy.local.s3server import JARS; sys.exit(not JARS.folder.is_dir())' && return
    if ! command -v mvn >/dev/null; then packages maven; fi
    say "fetching the jars of an S3 server for the tests (once, 19 MB)"
    .venv/bin/python -c 'from deploy.local.s3server import JARS; JARS.fetched()'
}

network() { # for the test of a host that falls silent
    if ! installed ip && may_install; then packages iproute2; fi
}

prometheus() {
    if installed prometheus && installed promtool && installed amtool \
        && { installed prometheus-alertmanager || installed alertmanager; }; then return; fi
    if ! may_install; then
        say "Prometheus and Alertmanager are missing (on Debian or Ubuntu: packages prometheus, prometheus-alertmanager):" \
            "local stacks are not observed, and tests of rules are left out"
        return
    fi
    programs prometheus prometheus-alertmanager
    if [ -d /run/systemd/system ]; then $as systemctl disable --quiet prometheus prometheus-alertmanager || true; fi
}

# For packages that start services on installation, on ports that may be in use: only their programs are wanted.
programs() {
    policy=/usr/sbin/policy-rc.d
    if ! [ -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $as tee "$policy" >/dev/null
        $as chmod 755 "$policy"
        trap '$as rm -f "$policy"' EXIT
        trap 'exit 1' INT TERM
    fi
    packages "$@"
}

# With TLS, which the bundled PostgreSQL was built without; for stacks with secured links.
postgres() {
    if [ -n "${GOODFAITH_POSTGRES_BIN:-}" ] || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then return; fi
    if ! may_install; then
        say "PostgreSQL with TLS is missing (on Debian or Ubuntu: package postgresql):" \
            "there are no secured stacks here, and their tests are left out"
        return
    fi
    programs postgresql
    if [ -d /run/systemd/system ]; then $as systemctl disable --quiet postgresql || true; fi
}

docker() {
    may_install || fail "a Docker engine is installed on Debian and Ubuntu only, as root; elsewhere start one"
    programs docker.io iptables docker-compose mmdebstrap
    if [ -d /run/systemd/system ]; then $as systemctl disable --quiet docker || true; fi
}

manifests() {
    for tool in sigs.k8s.io/kustomize/kustomize/v5@v5.8.1 github.com/zegl/kube-score/cmd/kube-score@v1.20.0; do
        program=${tool%@*}; program=${program%/v5}; program=${program##*/}
        # the version is in the name, so a new one is built
        built=.local/tools/$program-${tool##*@}
        if ! [ -x "$built" ]; then
            command -v go >/dev/null || fail "missing: Go 1.24 or newer, which builds kustomize and kube-score (https://go.dev/doc/install)"
            say "building $program ${tool##*@} (once)"
            mkdir -p .local/tools
            # Go checks what it fetches against the public log of sums
            GOBIN="$PWD/.local/tools/new" CGO_ENABLED=0 go install -ldflags='-s -w' "$tool"
            mv ".local/tools/new/$program" "$built"
            rmdir .local/tools/new
        fi
        ln -sf "$program-${tool##*@}" ".local/tools/$program"
    done
}

cluster() {
    command -v go >/dev/null || fail "missing: Go 1.26 or newer, which builds the control plane (https://go.dev/doc/install)"
    java_17
    if ! command -v mvn >/dev/null; then packages maven; fi
    if installed etcd; then return; fi
    may_install || fail "missing: etcd (on Debian or Ubuntu: package etcd-server)"
    programs etcd-server
    if [ -d /run/systemd/system ]; then $as systemctl disable --quiet etcd || true; fi
}

chromium() {
    for browser in chromium-headless-shell chromium chromium-browser google-chrome; do
        if installed "$browser"; then return; fi
    done
    if ! may_install; then
        say "Chromium is missing (on Debian: package chromium-headless-shell): the test of the status page is left out"
        return
    fi
    $as apt-get update -q >&2
    # half the size of the whole browser; if it is not packaged (as on Ubuntu), nothing is installed instead
    if [ -z "$(apt-cache madison chromium-headless-shell 2>/dev/null)" ]; then
        say "there is no package chromium-headless-shell here: the test of the status page is left out"
        return
    fi
    packages chromium-headless-shell
}

cd "$(dirname "$0")/../.."
case $1 in local) local_stack ;; *) "$1" ;; esac
