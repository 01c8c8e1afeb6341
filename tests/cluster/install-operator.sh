#!/bin/bash
# install-operator.sh TAG [HELM OPTION…]: installs or upgrades the chart with the loaded image of that tag, and waits
# until the operator runs.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ $# -ge 1 ]] || fail "which tag of the image?"
tag=$1
shift
helm upgrade --install experience-buffer-operator "$REPOSITORY/helm/experience-buffer-operator" \
  --namespace experience-buffer-system --create-namespace \
  --set image.repository=experience-buffer --set-string image.tag="$tag" --set image.pullPolicy=IfNotPresent \
  --wait --timeout 3m "$@"
