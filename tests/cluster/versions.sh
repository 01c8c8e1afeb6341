# shellcheck shell=bash disable=SC2034
# Every version the cluster is made of. What is kept in the cache is named by these.

KIND_VERSION=v0.33.0
HELM_VERSION=v4.3.1
KUBECONFORM_VERSION=v0.7.0
LOCAL_PATH_VERSION=v0.0.30

# kind's own node image: the default of KIND_VERSION.
STOCK_NODE_IMAGE=kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5
# What the node image built here holds; kubernetes/go.mod names the same version.
KUBERNETES_VERSION=v1.34.4

BASE_IMAGE=debian:bookworm-slim
BASE_SUITE=bookworm
