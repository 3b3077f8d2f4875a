# The context is a folder with one file, the static binary: `make image` builds it and calls this.
FROM scratch
COPY rackpartition /rackpartition
# The operator runs as this user. Agents override it: uid 0 with CAP_NET_ADMIN, since nothing else may load nftables rules.
USER 65532:65532
ENTRYPOINT ["/rackpartition"]
