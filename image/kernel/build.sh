#!/bin/sh
# Builds the kernel: build.sh SOURCE_TARBALL FRAGMENT WORK_FOLDER OUTPUT_FOLDER
# Called by `gatehouse-image kernel`, which finds and checks the source and keeps the result by the hash of its inputs.
# Output: bzImage, config, both a function of source, fragment and compiler alone.
set -eu
tarball=$1 fragment=$2 work=$3 out=$4

export LC_ALL=C TZ=UTC
umask 022
# Everything in which two builds would differ: who, where, when, and the counter that the source tree keeps.
export KBUILD_BUILD_USER=gatehouse KBUILD_BUILD_HOST=gatehouse KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_TIMESTAMP='2025-01-01 00:00:00 UTC'
unset LOCALVERSION MAKEFLAGS MFLAGS || true

mkdir -p "$work" "$out"
if [ ! -f "$work/.unpacked" ]; then
  tar -C "$work" --strip-components=1 -xf "$tarball"
  touch "$work/.unpacked"
fi
cd "$work"

make -s allnoconfig
scripts/kconfig/merge_config.sh -m -O . .config "$fragment" >merge.log
make -s olddefconfig

# kconfig drops what it does not know or what depends on something missing without a word; here that is an error.
bad=0
while IFS= read -r line; do
  case $line in
    CONFIG_*) grep -qxF "$line" .config || { echo "not in .config: $line" >&2; bad=1; } ;;
    '# CONFIG_'*' is not set')
      name=${line#\# }; name=${name%% *}
      if grep -q "^$name=" .config; then echo "still set: $(grep "^$name=" .config)" >&2; bad=1; fi ;;
  esac
done <"$fragment"
[ "$bad" = 0 ] || { echo "the fragment does not fit this kernel source" >&2; exit 1; }
[ "${KERNEL_CONFIG_ONLY:-}" = "" ] || exit 0

make -s -j"${KERNEL_JOBS:-2}" bzImage
cp arch/x86/boot/bzImage "$out/bzImage.part"
cp .config "$out/config"
mv "$out/bzImage.part" "$out/bzImage"
