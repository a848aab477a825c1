#!/usr/bin/env bash
# Installs a wheel into a new environment outside the checkout, and runs what a new user would run, with the network off.
#   bash packaging/try_wheel.sh dist/napari_leukocls-*.whl [pinned|newest|lowest] [PYTHON]
# Prints the seconds of the installation, the size of the environment, and the seconds of the demonstration.
# Needs uv (pip install uv). The network is cut with unshare, where the system has it (Linux, root or user namespaces).
set -euo pipefail
wheel=$(realpath "$1")
versions=${2:-pinned}
python=${3:-python3}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
uv venv --quiet --python "$(command -v "$python")" "$place/env"
case $versions in
  pinned) options=(--constraint "$root/constraints.txt") ;;
  newest) options=(--resolution highest) ;;
  lowest) options=(--resolution lowest-direct) ;;
  *) echo "no versions named $versions: pinned, newest or lowest" >&2; exit 2 ;;
esac
# grad-cam is published as source; everything else comes as a wheel, so that no compiler is needed.
began=$SECONDS
uv pip install --quiet --python "$place/env/bin/python" --only-binary :all: --no-binary grad-cam \
  "${options[@]}" "$wheel[gui]"
echo "installed in $((SECONDS - began)) s; the environment has $(du -sm "$place/env" | cut -f1) MB," \
  "the wheel $(($(stat -c %s "$wheel") / 1000000)) MB"
cd "$place"
if unshare --net true 2>/dev/null; then off=(unshare --net); else off=(unshare --user --map-root-user --net); fi
"${off[@]}" true 2>/dev/null || { echo "the network cannot be cut here: it stays on"; off=(); }
export LEUKOCLS_DATA=$place/data
"${off[@]}" "$place/env/bin/leukocls" --version
"${off[@]}" "$place/env/bin/leukocls" models verify default
began=$SECONDS
"${off[@]}" "$place/env/bin/leukocls" demo --out "$place/demo"
echo "demonstration: $((SECONDS - began)) s"
test -n "$(find "$place/demo" -name report.html)"
"$place/env/bin/npe2" validate napari-leukocls
