# kind's load balancer; "no strict-limits" lets haproxy start where it may not raise its file limit.
ARG BASE
FROM ${BASE}
COPY haproxy.cfg /usr/local/etc/haproxy/haproxy.cfg
RUN mkdir -p /etc/lab && printf 'global\n  no strict-limits\n' > /etc/lab/limits.cfg
STOPSIGNAL SIGUSR1
ENTRYPOINT ["haproxy", "-W", "-db", "-f", "/etc/lab/limits.cfg", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
