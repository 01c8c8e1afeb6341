#!/bin/bash
# advertise-gpu.sh NODE COUNT: makes the scheduler believe that NODE has COUNT GPUs of NVIDIA's. No device comes with it.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ $# -eq 2 ]] || fail "usage: advertise-gpu.sh NODE COUNT"
kubectl patch node "$1" --subresource=status --type=json --patch "[
  {\"op\": \"add\", \"path\": \"/status/capacity/nvidia.com~1gpu\", \"value\": \"$2\"},
  {\"op\": \"add\", \"path\": \"/status/allocatable/nvidia.com~1gpu\", \"value\": \"$2\"}]"
