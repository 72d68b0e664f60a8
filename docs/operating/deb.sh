#!/bin/sh
# Makes a Debian package of the release binaries (`make deb`): target/deb/wiretape_VERSION_ARCH.deb,
# with manual pages, completions, systemd units, the user and the folder of segments. BIN names
# another folder of binaries.
set -eu
cd "$(dirname "$0")/../.."
bin=${BIN:-target/release}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
if ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "dpkg-deb is missing: a Debian package is made on Debian, Ubuntu or with the package dpkg" >&2
    exit 1
fi
arch=$(dpkg --print-architecture)
for one in wiretape wiretape-host wiretape-capture wiretape-xdp; do
    [ -x "$bin/$one" ] || { echo "$bin/$one is missing: run make build first" >&2; exit 1; }
done

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
umask 022
put() { install -D -m "$1" "$2" "$root/$3"; }

for one in wiretape wiretape-host wiretape-capture wiretape-xdp; do
    put 755 "$bin/$one" "usr/bin/$one"
    # Symbols stay: `wiretape logs` finds the worker's sentences in them.
    strip --strip-debug "$root/usr/bin/$one"
    case $one in
    wiretape | wiretape-xdp) man="man" completions="completions" ;;
    *) man="--man" completions="--completions" ;;
    esac
    mkdir -p "$root/usr/share/man/man1" "$root/usr/share/bash-completion/completions" \
        "$root/usr/share/zsh/vendor-completions" "$root/usr/share/fish/vendor_completions.d"
    "$bin/$one" $man | gzip -9n >"$root/usr/share/man/man1/$one.1.gz"
    "$bin/$one" $completions bash >"$root/usr/share/bash-completion/completions/$one"
    "$bin/$one" $completions zsh >"$root/usr/share/zsh/vendor-completions/_$one"
    "$bin/$one" $completions fish >"$root/usr/share/fish/vendor_completions.d/$one.fish"
done
for unit in docs/operating/systemd/*.service; do
    put 644 "$unit" "usr/lib/systemd/system/$(basename "$unit")"
done
put 644 docs/operating/systemd/wiretape.sysusers usr/lib/sysusers.d/wiretape.conf
put 644 docs/operating/systemd/wiretape.tmpfiles usr/lib/tmpfiles.d/wiretape.conf
put 644 docs/operating/capture.example.toml usr/share/doc/wiretape/capture.example.toml
put 644 docs/operating/guide.md usr/share/doc/wiretape/guide.md
put 644 README.md usr/share/doc/wiretape/README.md
put 644 LICENSE-MIT usr/share/doc/wiretape/copyright
mkdir -p "$root/etc/wiretape" "$root/DEBIAN"

cat >"$root/DEBIAN/control" <<CONTROL
Package: wiretape
Version: $version
Architecture: $arch
Section: net
Priority: optional
Maintainer: Wiretape <maintainers@wiretape.example>
Depends: libc6, libelf1 | libelf1t64, zlib1g, ethtool
Recommends: ethtool, iproute2
Installed-Size: $(du -sk "$root" | cut -f1)
Description: market-data capture appliance
 Takes exchange feeds from the network card (XDP, AF_XDP), decodes them, merges
 lines A and B, keeps the order books and publishes every event into shared
 memory, where any number of readers follow without disturbing the writer.
CONTROL
cat >"$root/DEBIAN/postinst" <<'SCRIPT'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    if command -v systemd-sysusers >/dev/null 2>&1; then
        systemd-sysusers wiretape.conf
    elif ! getent passwd wiretape >/dev/null; then
        useradd --system --user-group --home-dir / --shell /usr/sbin/nologin wiretape
    fi
    if command -v systemd-tmpfiles >/dev/null 2>&1; then
        systemd-tmpfiles --create wiretape.conf || true
    fi
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
fi
SCRIPT
cat >"$root/DEBIAN/prerm" <<'SCRIPT'
#!/bin/sh
set -e
# An upgrade leaves running units alone: they are restarted when it suits the operator.
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl stop 'wiretape-record@*' 'wiretape-capture@*' wiretape-metrics wiretape-host 'wiretape-xdp@*' || true
fi
SCRIPT
cat >"$root/DEBIAN/postrm" <<'SCRIPT'
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
SCRIPT
chmod 755 "$root"/DEBIAN/post* "$root"/DEBIAN/prerm

mkdir -p target/deb
deb=target/deb/wiretape_${version}_$arch.deb
dpkg-deb --root-owner-group --build "$root" "$deb" >/dev/null
echo "$deb"
