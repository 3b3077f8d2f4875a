# A component that is only its static binaries. The builder appends an ENTRYPOINT where a pod relies on one.
FROM scratch
COPY bin/ /usr/local/bin/
ENV PATH=/usr/local/bin:/usr/bin:/bin
