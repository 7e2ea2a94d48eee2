#!/usr/bin/env bash
# tests/debian.sh VENV: gets the programs of the tests that pip has not, from Debian. What is there already is left alone; what cannot
# be had is said, and the tests that need it fail.
set -euo pipefail
venv=$1

have() {
	for program in "$@"; do
		[ -x "$venv/bin/$program" ] || command -v "$program" >/dev/null || return 1
	done
}

# Without root, and without the service that installing it would start.
fetch() {
	local package=$1
	mkdir -p "$venv/debian"
	(
		cd "$venv/debian"
		apt-get download "$package" || { [ "$(id -u)" = 0 ] && apt-get update && apt-get download "$package"; }
		dpkg -x "$package"_*.deb . && rm "$package"_*.deb
	) >"$venv/debian.log" 2>&1
}

# Of a package that needs no other one but libc.
unpack() {
	local package=$1
	shift
	have "$@" && return
	echo "Getting Debian's $package ..."
	if fetch "$package"; then
		for program in "$@"; do ln -sf "../debian/usr/bin/$program" "$venv/bin/$program"; done
	else
		echo "No $* here, and apt-get download $package failed ($venv/debian.log): put them on PATH (https://prometheus.io/download has them)." >&2
	fi
}

# A library that tests load by its path.
unpack_library() {
	local package=$1 library=$2
	[ -n "$(find "$venv/debian" /usr/lib -name "$library" -print -quit 2>/dev/null)" ] && return
	echo "Getting Debian's $package ..."
	fetch "$package" || echo "No $library here, and apt-get download $package failed ($venv/debian.log): install $package." >&2
}

# A service, with those libraries that a small Debian lacks. tests/processes/unpacked.py finds them in the folder.
unpack_service() {
	local service=$1 package
	[ -x "$venv/debian/usr/sbin/$service" ] && return
	have "$service" && return
	echo "Getting Debian's $service ..."
	for package in "$@"; do
		fetch "$package" || echo "No $service here, and apt-get download $package failed ($venv/debian.log): install $service." >&2
	done
}

# Of a package that needs many others.
install() {
	local package=$1 log=$venv/debian.log
	shift
	have "$@" && return
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "Installing Debian's $package ..."
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package"; } >"$log" 2>&1 || true
	fi
	have "$@" || echo "No $package here: install it as root (apt-get install $package)." >&2
}

unpack prometheus prometheus promtool
unpack_library libfaketime libfaketimeMT.so.1
unpack_service haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
unpack_service pgbouncer libc-ares2 libevent-2.1-7
install chromium chromium
install iproute2 ip
