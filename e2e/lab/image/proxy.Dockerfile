# kube-proxy runs nft, so unlike the other components it needs a userland.
ARG BASE
FROM ${BASE}
COPY bin/kube-proxy /usr/local/bin/
