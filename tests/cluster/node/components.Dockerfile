# Every program that a cluster starts as a pod, in one image; each is called by its name.
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends conntrack iptables kmod \
 && rm -rf /var/lib/apt/lists/*
COPY kube coredns local-path-provisioner /usr/local/bin/
RUN for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy etcd; do \
      ln -s kube "/usr/local/bin/$program"; \
    done
