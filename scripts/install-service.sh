#!/usr/bin/env bash
# Installs mdfeed as the systemd service `market-data`, upgrades it, or takes it away. Run `install-service.sh --help`.
#
# Every step that changes something pushes its own undoing; a failure, or Ctrl-C, undoes them newest first.
# An upgrade makes a new environment beside the old one, and the switch is one symlink, so the old service runs until
# the new one has proved that it can read the configuration.
set -euo pipefail
umask 022

SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
UNIT=market-data.service
UNIT_FILE=/etc/systemd/system/$UNIT
ETC=/etc/mdfeed
STATE=/var/lib/mdfeed
CONFIG=$ETC/config.yaml
MARKER=.mdfeed-install

user=mdfeed
prefix=/opt/mdfeed
offered_config=''
wheel=''
dry_run=false
uninstall=false
keep_data=false
start=true
undo=()

usage() {
    cat <<EOF
Usage: install-service.sh [OPTION]...
Install or upgrade mdfeed as the systemd service market-data, started at boot.

  --user NAME      run as this system user, made when absent (default: mdfeed)
  --prefix DIR     put the program here (default: /opt/mdfeed)
  --config FILE    first configuration, copied to $CONFIG; an installed one is kept
  --wheel FILE     install this built mdfeed wheel: needs no compiler
  --no-start       enable at boot, but do not start now
  --dry-run        print what would be done, change nothing
  --uninstall      remove service, program, configuration, data and the user that was made
  --keep-data      with --uninstall: leave $ETC and $STATE
  -h, --help       this text

Environment: PYTHON, an interpreter to use (3.11 or later, not below /root or /home); pip's own PIP_* variables.
Exit codes: 0 done, 1 failed and rolled back, 2 usage, 78 bad configuration (rolled back).
EOF
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "install-service: $*"; exit 1; }
fail_usage() { say "install-service: $*"; say "Try: install-service.sh --help"; exit 2; }

# Everything that changes the machine goes through here.
run() {
    if $dry_run; then printf '+'; printf ' %q' "$@"; printf '\n'; else "$@"; fi
}
on_undo() { undo+=("$(printf '%q ' "$@")"); }

roll_back() {
    local code=$? i
    trap - EXIT INT TERM
    if ((code != 0 && ${#undo[@]} > 0)); then
        say "install-service: failed, rolling back"
        set +e
        for ((i = ${#undo[@]} - 1; i >= 0; i--)); do eval "${undo[i]}" || say "install-service: could not undo: ${undo[i]}"; done
    fi
    exit "$code"
}

has_systemd() { [[ -d /run/systemd/system ]]; }
# Without a running systemd (an image being built) enabling is a matter of symlinks and there is nothing to reload.
reload_units() { if has_systemd; then systemctl daemon-reload; fi; }

need_value() { if [[ $# -lt 2 || -z $2 ]]; then fail_usage "$1 needs a value"; fi; }

parse() {
    while (($# > 0)); do
        case $1 in
            --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
            --user) need_value "$@"; user=$2; shift ;;
            --prefix) need_value "$@"; prefix=$2; shift ;;
            --config) need_value "$@"; offered_config=$2; shift ;;
            --wheel) need_value "$@"; wheel=$2; shift ;;
            --dry-run) dry_run=true ;;
            --uninstall) uninstall=true ;;
            --keep-data) keep_data=true ;;
            --no-start) start=false ;;
            -h | --help) usage; exit 0 ;;
            *) fail_usage "unknown option: $1" ;;
        esac
        shift
    done
    [[ $user =~ ^[a-z_][a-z0-9_-]{0,30}$ ]] || fail_usage "--user: not a user name: $user"
    [[ $user != root ]] || fail_usage "--user: the service does not run as root"
    # The unit and the shebangs hold this path: no spaces, no specifiers, no way up.
    [[ $prefix =~ ^/[A-Za-z0-9._+/-]+$ && /$prefix/ != */../* ]] || fail_usage "--prefix: needs a plain absolute path: $prefix"
    prefix=$(realpath -ms "$prefix")
    case $prefix in
        / | /bin | /boot | /dev | /etc | /lib* | /opt | /proc | /run | /sbin | /srv | /sys | /tmp | /usr | /usr/local | /var | /var/lib)
            fail_usage "--prefix: needs a directory of its own: $prefix" ;;
        /root | /root/* | /home | /home/* | /run/* | /tmp/*) fail_usage "--prefix: the service cannot see $prefix (ProtectHome, PrivateTmp)" ;;
    esac
    if [[ -n $offered_config && ! -r $offered_config ]]; then fail_usage "--config: cannot read $offered_config"; fi
    if [[ -n $wheel && ! -r $wheel ]]; then fail_usage "--wheel: cannot read $wheel"; fi
    if $keep_data && ! $uninstall; then fail_usage "--keep-data goes with --uninstall"; fi
}

# What the packages of a Python that is new enough are called here: `python3`, or where that is older, one beside it.
name_python() {
    local ID='' VERSION_ID='' PLATFORM_ID=''
    # shellcheck source=/dev/null
    if [[ -r /etc/os-release ]]; then . /etc/os-release; fi
    case $ID:$VERSION_ID:$PLATFORM_ID in
        ubuntu:22.*) echo python3.11 ;;
        *:platform:el[89]) echo python3.12 ;; # RHEL and its kin
        *) echo python3 ;;
    esac
}

# The package manager's words for what is missing: Debian's names, Fedora's names.
advise() {
    if command -v apt-get >/dev/null; then say "  apt-get install -y $1"; elif command -v dnf >/dev/null; then say "  dnf install -y $2"; fi
}

# Prints the real path of an interpreter that the service can execute, or nothing.
# One from pyenv or uv lies below /root or /home, where ProtectHome= hides it: exec would fail with 203.
find_python() {
    local candidate real
    for candidate in ${PYTHON:+"$PYTHON"} /usr/bin/python3 /usr/bin/python3.{14,13,12,11} /usr/local/bin/python3 python3; do
        command -v "$candidate" >/dev/null || continue
        real=$("$candidate" -c 'import os, sys
if sys.version_info >= (3, 11):
    print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))' 2>/dev/null) || continue
        case $real in '' | /root/* | /home/* | /run/user/* | /tmp/*) continue ;; esac
        printf '%s\n' "$real"
        return
    done
}

preflight() {
    if ! $dry_run && ((EUID != 0)); then fail "must run as root (--dry-run needs no root)"; fi
    if $start && ! has_systemd && ! $dry_run; then fail "systemd is not running here; --no-start installs without it"; fi
    command -v systemctl >/dev/null || fail "systemctl not found: this installs a systemd service"
    if ! $dry_run; then
        exec 9</etc/systemd/system
        flock -n 9 || fail "another install-service.sh is running"
    fi
}

check_unit_is_ours() {
    if [[ -e $UNIT_FILE ]] && ! grep -qs "^ExecStart=$prefix/venv/" "$UNIT_FILE"; then
        fail "$UNIT_FILE belongs to another installation: pass its --prefix"
    fi
}

check_install() {
    if [[ -e $prefix && ! -e $prefix/$MARKER && -n $(ls -A "$prefix") ]]; then fail "$prefix is not empty and not mdfeed's"; fi
    check_unit_is_ours
    python=$(find_python)
    if [[ -z $python ]]; then
        say "install-service: no Python 3.11 or later that the service could execute (one below /root or /home is hidden from it):"
        advise "$(name_python) $(name_python)-venv" "$(name_python)"
        exit 1
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "install-service: $python cannot make environments:"
        advise "$(name_python)-venv" "$(name_python)-pip"
        exit 1
    fi
    if [[ -z $wheel ]] && ! { command -v c++ && [[ -e $("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h ]]; } >/dev/null; then
        say "install-service: building needs a C++ compiler and Python's headers (or pass --wheel):"
        advise "g++ $(name_python)-dev" "gcc-c++ $(name_python)-devel"
        exit 1
    fi
}

make_user() {
    if getent passwd "$user" >/dev/null; then
        [[ $(id -u "$user") != 0 ]] || fail "--user: $user is root"
        return
    fi
    on_undo userdel "$user"
    run useradd --system --user-group --no-create-home --home-dir /nonexistent --shell "$(command -v nologin || echo /usr/sbin/nologin)" \
        --comment "mdfeed market data" "$user"
    made_user=true
}

make_prefix() {
    if [[ ! -e $prefix ]]; then
        on_undo rm -rf "$prefix"
        run install -d -m 0755 "$prefix"
    fi
    if [[ ! -e $prefix/$MARKER ]]; then
        on_undo rm -f "$prefix/$MARKER"
        # Read by --uninstall: whose user it is, and whether it was ours to make.
        run write_file "$prefix/$MARKER" 0644 "user=$user made_user=${made_user:-false}"
    elif ${made_user:-false}; then
        on_undo write_file "$prefix/$MARKER" 0644 "$(<"$prefix/$MARKER")"
        run write_file "$prefix/$MARKER" 0644 "user=$user made_user=true"
    fi
}

write_file() { printf '%s\n' "$3" >"$1" && chmod "$2" "$1"; }

# The build happens on a copy, so that the clone stays as it was and nothing stale from it gets in.
build_wheel() {
    local copy=$release/build
    run install -d "$copy/source"
    run cp -R "$SOURCE"/{pyproject.toml,setup.py,README.md,LICENSE,mdfeed} "$copy/source/"
    run find "$copy/source/mdfeed" -name '*.so' -delete
    run "$python" -m venv "$copy/venv"
    run "$copy/venv/bin/python" -m pip install --quiet --no-cache-dir --require-hashes -r "$SOURCE/deploy/requirements-build.txt"
    run "$copy/venv/bin/python" -m pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation -w "$copy" "$copy/source"
    # It stays beside the environment, for --wheel on machines without a compiler.
    run mv "$copy"/mdfeed-*.whl "$release/"
    if $dry_run; then wheel=$release/mdfeed.whl; else wheel=$(ls "$release"/mdfeed-*.whl); fi
}

make_release() {
    release=$prefix/releases/$(date -u +%Y%m%dT%H%M%S.%NZ)
    on_undo rm -rf "$release"
    run install -d -m 0755 "$prefix/releases" "$release"
    if [[ -z $wheel ]]; then say "building mdfeed (a minute or two)"; build_wheel; fi
    run "$python" -m venv "$release/venv"
    run "$release/venv/bin/python" -m pip install --quiet --no-cache-dir --require-hashes -r "$SOURCE/deploy/requirements.txt"
    run "$release/venv/bin/python" -m pip install --quiet --no-cache-dir --no-deps "$wheel"
    run rm -rf "$release/build"
    # SELinux (Fedora): the interpreter's links and scripts get the label of programs.
    if command -v restorecon >/dev/null; then run restorecon -R "$prefix"; fi
}

place_config() {
    if [[ ! -d $ETC ]]; then
        on_undo rmdir "$ETC"
        run install -d -m 0750 -o root -g "$user" "$ETC"
    fi
    if [[ -e $CONFIG ]]; then
        if [[ -n $offered_config ]] && ! cmp -s "$offered_config" "$CONFIG"; then
            say "keeping $CONFIG; the offered file is beside it as config.yaml.new"
            run install -m 0640 -o root -g "$user" "$offered_config" "$CONFIG.new"
        fi
    else
        on_undo rm -f "$CONFIG"
        run install -m 0640 -o root -g "$user" "${offered_config:-$SOURCE/config.yaml}" "$CONFIG"
    fi
    # As the service's user: it must be able to execute the program and to read the file, as well as like it.
    run as_service "$release/venv/bin/mdfeed" config check -c "$CONFIG"
}

# With the service's user and environment, which may hold the secrets that the configuration asks for.
as_service() {
    if has_systemd; then
        systemd-run --quiet --collect --wait --pipe -p "User=$user" -p "EnvironmentFile=-$ETC/environment" -- "$@"
    else
        runuser -u "$user" -- "$@"
    fi
}

switch_release() {
    local before
    if before=$(readlink "$prefix/venv"); then
        on_undo ln -sfnT "$before" "$prefix/venv"
    else
        on_undo rm -f "$prefix/venv"
    fi
    run ln -sfnT "releases/${release##*/}/venv" "$prefix/venv"
}

install_unit() {
    local text
    text=$(sed -e "s|@USER@|$user|g; s|@PREFIX@|$prefix|g; s|@CONFIG@|$CONFIG|g" "$SOURCE/deploy/systemd/$UNIT")
    on_undo reload_units
    if [[ -e $UNIT_FILE ]]; then on_undo write_file "$UNIT_FILE" 0644 "$(<"$UNIT_FILE")"; else on_undo rm -f "$UNIT_FILE"; fi
    run write_file "$UNIT_FILE" 0644 "$text"
    run reload_units
    if ! systemctl is-enabled --quiet "$UNIT" 2>/dev/null; then
        on_undo systemctl disable --quiet "$UNIT"
        run systemctl enable --quiet "$UNIT"
    fi
}

was_touched=false
# Pushed first, so that it comes last, when files and unit are as they were. A failure before the switch disturbs nothing.
restart_old() { if $was_touched; then forget_failures; systemctl restart "$UNIT"; fi; }
stop_service() { systemctl stop "$UNIT"; forget_failures; }
# Without this a unit that has used up its starts would refuse the one that mends it.
forget_failures() { systemctl reset-failed "$UNIT" 2>/dev/null || true; }

start_service() {
    was_touched=true
    if ! $was_running; then on_undo stop_service; fi
    run forget_failures
    # Type=notify: returns when the daemon has said READY, fails when it has not.
    run systemctl restart "$UNIT" || { show_journal; return 1; }
    run check_health || { show_journal; return 1; }
}

# The configuration says where. 401 is alive too: asking for credentials is the operator's choice, as is asking for a
# client's certificate, where a connection is all that can be tried.
check_health() {
    as_service "$prefix/venv/bin/python" - "$CONFIG" <<'EOF'
import os, socket, ssl, sys, time, urllib.error, urllib.request
from mdfeed.config import load_config
config = load_config(sys.argv[1])
host, _, port = os.environ.get("MDFEED_SERVE_HTTP", f"{config.http.host}:{config.health_port}").rpartition(":")
host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.strip("[]"), host.strip("[]"))
tls = config.http.tls
url = f"{'https' if tls.cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/health"
seen = ""
for _ in range(20):
    try:
        if tls.client_ca:
            socket.create_connection((host, int(port)), timeout=2).close()
            sys.exit(print(f"{url}: accepts connections", file=sys.stderr))
        with urllib.request.urlopen(url, timeout=2, context=ssl._create_unverified_context()) as answer:
            sys.exit(print(f"{url}: {answer.read(200).decode()}", file=sys.stderr))
    except urllib.error.HTTPError as error:
        if error.code == 401:
            sys.exit(print(f"{url}: 401, alive and asking for credentials", file=sys.stderr))
        seen = str(error)
    except OSError as error:
        seen = str(error)
    time.sleep(0.5)
sys.exit(f"install-service: {url} did not answer: {seen}")
EOF
}

show_journal() { say "the last journal lines of $UNIT:"; journalctl -u "$UNIT" -n 20 --no-pager -o cat >&2 || true; }

prune_releases() {
    local old
    for old in "$prefix"/releases/*; do
        if [[ $old != "$release" && -d $old ]]; then run rm -rf "$old"; fi
    done
}

install_service() {
    check_install
    say "installing with $python into $prefix, as user $user"
    made_user=false
    was_running=false
    if has_systemd && systemctl is-active --quiet "$UNIT"; then
        was_running=true
        on_undo restart_old
    fi
    make_user
    make_prefix
    make_release
    place_config
    switch_release
    install_unit
    if $start; then start_service; fi
    undo=()
    prune_releases
    if $dry_run; then say "dry run: nothing was changed"; else say "market-data is installed. Logs: journalctl -u market-data"; fi
}

uninstall_service() {
    local made_user=false owner=$user
    if [[ -e $prefix && ! -e $prefix/$MARKER ]]; then fail "$prefix is not mdfeed's: not removing it"; fi
    check_unit_is_ours
    if [[ -r $prefix/$MARKER ]]; then
        owner=$(sed -n 's/^user=\([^ ]*\) .*/\1/p' "$prefix/$MARKER")
        if grep -q 'made_user=true' "$prefix/$MARKER"; then made_user=true; fi
    fi
    if [[ -e $UNIT_FILE ]]; then
        if has_systemd; then run systemctl disable --quiet --now "$UNIT"; else run systemctl disable --quiet "$UNIT"; fi
    fi
    if [[ -e $UNIT_FILE ]] && has_systemd; then run systemctl revert "$UNIT"; fi # drop-ins, wherever they are
    run rm -rf "$UNIT_FILE" "$UNIT_FILE.d"
    run reload_units
    if has_systemd; then run forget_failures; fi
    if $keep_data; then say "leaving $ETC and $STATE"; else run rm -rf "$ETC" "$STATE"; fi
    run rm -rf "$prefix"
    if $made_user && ! $keep_data && getent passwd "$owner" >/dev/null; then run userdel "$owner"; fi
    if $dry_run; then say "dry run: nothing was changed"; else say "market-data is removed"; fi
}

parse "$@"
preflight
if $uninstall; then
    uninstall_service
else
    if ! $dry_run; then trap roll_back EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; fi
    install_service
fi
