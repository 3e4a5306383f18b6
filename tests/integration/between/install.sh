#!/usr/bin/env bash
# Builds into a folder, on Debian 12 and as root, the PgBouncer of Debian 13, from its source package.
# Where it cannot be had, this is told on standard error.
set -euo pipefail
folder=$(cd "$1" && pwd)
suite=trixie
version=1.24.1

# With lists and sources of its own: the machine's stay as they are.
pgbouncer() {
  local work listed
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/source
  listed=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list 2>/dev/null |
    grep -oE 'https?://[^ ]+/debian/? *$' | head -n 1 || true)
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${listed:?no Debian} $suite main" \
    >"$work/sources"
  local apt=(-q -o "Dir::Etc::sourcelist=$work/sources" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
  apt-get install -y -q --no-install-recommends gcc make pkgconf libevent-dev libssl-dev libc-ares-dev
  apt-get "${apt[@]}" update
  cd "$work/source"
  apt-get "${apt[@]}" source --download-only pgbouncer
  tar -xzf "pgbouncer_$version.orig.tar.gz"
  cd "pgbouncer-$version"
  ./configure --quiet >/dev/null
  make --silent pgbouncer >/dev/null
  install -m 755 pgbouncer "$folder"
}

(pgbouncer) >&2 || echo "PgBouncer $version could not be built: it will not run" >&2
