#!/bin/sh
# Builds FOLDER/qemu-aarch64, a qemu-user that can load plugins (Debian's packages cannot), from Debian's own source
# package, for the test that a count by plugin and a count by log are equal. No root: what it needs besides gcc, make,
# ninja, pkg-config, xz and Python is unpacked into FOLDER. Some two minutes on two cores; nothing is done twice.
#
#     tests/tools/build_plugin_qemu.sh FOLDER && export POCKETFORGE_PLUGIN_QEMU=FOLDER/qemu-aarch64
set -eu
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 64; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ -x "$folder/qemu-aarch64" ] && { echo "$folder/qemu-aarch64 is there"; exit 0; }
for tool in apt-get dpkg-deb gcc make ninja pkg-config xz python3; do
    command -v $tool >/dev/null || { echo "$0: needs $tool" >&2; exit 69; }
done
work=$folder/work
rm -rf "$work"
mkdir -p "$work/sources" "$work/lists/partial" "$work/packages" "$work/root"

# The machine's own package sources, asked for source packages.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
    [ -f "$file" ] && grep -qi debian "$file" || continue
    case $file in
        *.sources) sed 's/^Types:.*/Types: deb-src/' "$file" >"$work/sources/$(basename "$file")" ;;
        *) sed -n 's/^deb \(.*debian.*\)/deb-src \1/p' "$file" >"$work/sources/$(basename "$file").list" ;;
    esac
done
apt_source() {
    apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work" -o APT::Sandbox::User="$(id -un)" "$@"
}
apt_source update
cd "$work"
apt_source source --download-only qemu
mkdir source && tar xf qemu_*.orig.tar.xz -C source --strip-components=1

cd "$work/packages"
apt-get -q download meson libglib2.0-dev libglib2.0-dev-bin libglib2.0-0 libpcre2-dev libpcre2-8-0 libffi-dev libffi8 \
    libmount-dev libblkid-dev libselinux1-dev libsepol-dev zlib1g-dev
for package in *.deb; do dpkg-deb -x "$package" "$work/root"; done

mkdir "$work/build" && cd "$work/build"
machine=$(gcc -print-multiarch)
export PKG_CONFIG_LIBDIR="$work/root/usr/lib/$machine/pkgconfig:$work/root/usr/share/pkgconfig"
export PKG_CONFIG_SYSROOT_DIR="$work/root" LIBRARY_PATH="$work/root/usr/lib/$machine"
export PYTHONPATH="$work/root/usr/lib/python3/dist-packages"
# -O1: compiling takes half the time, and the tests' runs are short.
"$work/source/configure" --meson="$work/root/usr/bin/meson" --target-list=aarch64-linux-user --without-default-features \
    --enable-tcg --enable-linux-user --enable-plugins --disable-system --disable-tools --disable-docs \
    --disable-install-blobs --disable-capstone --disable-werror --extra-cflags="-O1 -g0" >configure.log
ninja qemu-aarch64 >ninja.log
cp qemu-aarch64 "$folder/qemu-aarch64.new"
mv "$folder/qemu-aarch64.new" "$folder/qemu-aarch64"
rm -rf "$work"
"$folder/qemu-aarch64" --version
