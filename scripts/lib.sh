# shellcheck shell=bash
#
# What the scripts share; sourced under `set -euo pipefail`. Everything works as
# root and as a user with sudo, from any directory, and twice in a row.

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
VENV=$ROOT/.venv

# Debian leaves these out of a user's PATH, and ip and ethtool are there.
PATH=$PATH:/usr/sbin:/sbin

missing_packages=()
wanted_packages=()

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "${0##*/}: $*"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "this needs root, and there is no sudo: run it as root"
    fi
}

# Run a program of the project as root: the XENVIRT_* settings go with it, and it
# leaves no files of root's in a user's checkout.
as_root_in_project() {
    local name settings=(PYTHONDONTWRITEBYTECODE=1)
    for name in $(compgen -v XENVIRT_); do
        settings+=("$name=${!name}")
    done
    as_root env "${settings[@]}" "$@"
}

# Run a command as the checkout's owner, so that root's run of a script does not
# take the owner's .venv and caches away from them.
as_owner() {
    local uid gid home
    read -r uid gid < <(stat -c '%u %g' "$ROOT")
    if [ "$(id -u)" -ne 0 ] || [ "$uid" -eq 0 ]; then
        "$@"
        return
    fi
    home=$(getent passwd "$uid" | cut -d: -f6) || home=
    setpriv --reuid "$uid" --regid "$gid" --clear-groups \
        env HOME="${home:-/tmp}" "$@"
}

# need WHAT PACKAGE...: PACKAGE is to be installed unless WHAT, a command or the
# path of a file, is there.
need() {
    local what=$1
    shift
    if ! command -v "$what" >/dev/null && [ ! -e "$what" ]; then
        missing_packages+=("$@")
    fi
}

# want WHAT PACKAGE: as `need`, but where the distribution has no such package, what
# it would have been compared with is left out.
want() {
    [ -e "$1" ] || wanted_packages+=("$2")
}

need_build_tools() {
    local python version include
    python=$(find_python)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    "$python" -c 'import ensurepip' 2>/dev/null ||
        missing_packages+=("python$version-venv")
    need "$include/Python.h" "python$version-dev"
    need gcc gcc libc6-dev
}

find_python() {
    local python
    # The system's first: an end is a user of its own, and must be able to read it.
    for python in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$python" >/dev/null && "$python" -c \
            'import sys; sys.exit(sys.version_info < (3, 11))'; then
            command -v "$python"
            return
        fi
    done
    die "there is no Python of 3.11 or later: install one, as by apt-get install python3.11"
}

# Install what `need` found missing, and what `want` did if it can be had.
install_missing() {
    local package
    if [ ${#wanted_packages[@]} -gt 0 ] && command -v apt-get >/dev/null; then
        apt_get update
        for package in "${wanted_packages[@]}"; do
            if apt-cache show "$package" >/dev/null 2>&1; then
                missing_packages+=("$package")
            else
                say "Without $package, which this distribution does not have"
            fi
        done
        wanted_packages=()
    fi
    [ ${#missing_packages[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        die "this is missing, in Debian's names: ${missing_packages[*]};" \
            "install it with this system's package manager"
    fi
    say "Installing ${missing_packages[*]}"
    apt_get update
    apt_get install --no-install-recommends "${missing_packages[@]}" >/dev/null
    missing_packages=()
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# ensure_venv runtime|test|bench: have the project in .venv, in place, for `test`
# and `bench` with that extra; build only if native/ or the packaging changed since.
ensure_venv() {
    local kind=$1 hash
    hash=$(build_hash)
    if is_current "$kind" "$hash"; then
        return
    fi
    # Of scripts that are begun together one builds, and the others wait.
    (
        flock 9
        if ! is_current "$kind" "$hash"; then
            build_venv "$kind" "$hash"
        fi
    ) 9<"$ROOT"
}

build_venv() {
    local kind=$1 hash=$2 extra extras=()
    for extra in test bench; do
        # One that has had an extra keeps it, or it would be built a second time.
        if [ "$kind" = "$extra" ] || [ -e "$VENV/built-$extra" ]; then
            extras+=("$extra")
        fi
    done
    as_owner test -w "$ROOT" || die "$ROOT is not yours: run it as its owner or root"

    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        say "Making $VENV"
        as_owner "$(find_python)" -m venv --clear "$VENV"
    fi
    say "Building xenvirt in $VENV"
    # setuptools takes an extension for current when only a header changed.
    as_owner rm -f "$ROOT"/xenvirt/_native*.so
    local project=$ROOT joined
    joined=$(IFS=, && echo "${extras[*]}")
    [ ${#extras[@]} -eq 0 ] || project+="[$joined]"
    as_owner "$VENV/bin/python" -m pip --quiet --disable-pip-version-check \
        install --root-user-action=ignore --editable "$project"
    as_owner "$VENV/bin/python" -m compileall -q "$ROOT/xenvirt"
    for extra in "$kind" "${extras[@]}"; do
        as_owner tee "$VENV/built-$extra" <<<"$hash" >/dev/null
    done
}

# Whether what is built is of that hash; what has an extra is a runtime as well.
is_current() {
    local kind kinds=("$1")
    [ "$1" != runtime ] || kinds+=(test bench)
    for kind in "${kinds[@]}"; do
        if [ -e "$VENV/built-$kind" ] && [ "$(cat "$VENV/built-$kind")" = "$2" ]; then
            return
        fi
    done
    return 1
}

# What the extension is built from, and where: an editable install holds the path.
build_hash() {
    (
        cd "$ROOT" || exit
        printf '%s\n' "$ROOT"
        find native setup.py setup.cfg pyproject.toml -type f \
            \( -name '*.[ch]' -o -name '*.py' -o -name '*.cfg' -o -name '*.toml' \) \
            ! -name _native.c -print0 | sort -z | xargs -0 sha256sum
    ) | sha256sum
}
