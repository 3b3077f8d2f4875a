//! Timers of Kubernetes and etcd that no object of a cluster shows, each with its unit and its source.

/// Jitter of a candidate's polls: it looks every `RP × (1 + U[0, 1.2])` (client-go `leaderelection.JitterFactor`).
pub const ELECTION_JITTER: f64 = 1.2;
/// Polls from the last renewal to a takeover: one sees the renewal, one finds it expired (client-go `tryAcquireOrRenew`).
pub const ELECTION_POLLS: f64 = 2.0;
/// Shortest client timeout of an election, seconds; else half the renew deadline (client-go `NewFromKubeconfig`).
pub const ELECTION_MIN_CLIENT_TIMEOUT: f64 = 1.0;
/// First retransmission of TCP, seconds (Linux `TCP_RTO_MIN`): a cut shorter than `(RD − this) / 2` costs no renewal.
pub const TCP_FIRST_RETRANSMISSION: f64 = 0.2;
/// API latency on a busy machine, seconds. Ours: several times what the lab shows.
pub const API_LATENCY: f64 = 1.0;

/// Election timeouts until a side knows whether it has a leader: a new one needs 1 to 2, a split vote one more; streams of
/// API servers end after 3 (etcd `maxNoLeaderCnt`), an old leader steps down within 2 (`MsgCheckQuorum`).
pub const ETCD_ELECTIONS: f64 = 3.0;
/// Election timeouts until a leader without a quorum has stepped down (etcd raft `MsgCheckQuorum`): so long its heartbeats keep
/// whoever still hears it from asking for votes.
pub const ETCD_STEP_DOWN: f64 = 2.0;
/// Election timeouts without a leader after which a member ends its watches (etcd `maxNoLeaderCnt`, `v3rpc/interceptor.go`).
pub const ETCD_NO_LEADER: f64 = 3.0;
/// For so long, seconds, an API server's watch cache asks a member without a leader for its watch again and again, and answers meanwhile
/// from what it has (`MaxInternalErrorRetryDuration`, apiserver `storage/cacher/cacher.go`). Then it is not ready any more.
pub const WATCH_CACHE_RETRIES: f64 = 30.0;
/// How far behind a watch cache may be whose watch goes on, seconds (theory C16).
pub const WATCH_CACHE_LAG: f64 = 5.0;
/// From the loss of the member that an API server is connected to until it has dialled another one, seconds (apiserver
/// `storage/storagebackend/factory/etcd3.go`: keepaliveTime 30 s and keepaliveTimeout 10 s). Only where it has several to dial.
pub const ETCD_CLIENT_KEEPALIVE: f64 = 40.0;
/// Slack beside the elections, seconds: fsync, dialling, scheduling on a busy machine. Ours, from the lab.
pub const ETCD_SLACK: f64 = 2.0;
/// Longest linearizable read beside two election timeouts, seconds (etcd `ReqTimeout` = 5 s + 2 × election timeout): a health
/// check that began just before the loss answers so much later.
pub const ETCD_READ_TIMEOUT: f64 = 5.0;
/// After this, seconds, a write that was in flight at the cut has been answered or given up on the losing side. Ours: the old
/// leader steps down within 2 election timeouts of 1 s, and one second for the answer.
pub const LAST_ACKNOWLEDGEMENT: f64 = 3.0;

/// Coordinated leader election: how long candidates are asked for, and how often a Lease is looked at (`electionDuration`,
/// `defaultRequeueInterval`, `pkg/controlplane/controller/leaderelection/leaderelection_controller.go`), seconds.
pub const COORDINATED_ELECTION: f64 = 5.0;
pub const COORDINATED_LOOK: f64 = 5.0;
/// LeaseDuration and RetryPeriod of the Lease by which one API server is chosen to elect for all others, seconds
/// (`run_with_leaderelection.go`, same folder).
pub const COORDINATOR_LEASE: (f64, f64) = (15.0, 2.0);

/// Jitter of a kubelet's Lease renewals (component-helpers `apimachinery/lease`, `renewInterval` × 1.04).
pub const LEASE_RENEW_JITTER: f64 = 1.04;
/// Longest back-off of a kubelet that can't renew its Lease, seconds (component-helpers `maxBackoff`).
pub const KUBELET_LEASE_BACK_OFF: f64 = 7.0;
/// Timeout of a kubelet's heartbeat client at the most, seconds (`cmd/kubelet/app/server.go`: min of this and the Lease).
pub const KUBELET_HEARTBEAT_TIMEOUT: f64 = 10.0;
/// `nodeStatusUpdateFrequency` at its default, seconds: Ready follows within it once a kubelet is heard again.
pub const KUBELET_STATUS_UPDATE: f64 = 10.0;
/// From winning the Lease to the first pass of the node lifecycle controller, seconds: caches fill first. Ours, from the lab
/// (observed: NotReady 51 s after the start, with a grace of 50 s).
pub const CONTROLLER_START: f64 = 5.0;
/// From Ready to the taints' end at the least, seconds: one pass of the node lifecycle controller at its default period. A longer one
/// (`--node-monitor-period`) takes its place.
pub const TAINT_REMOVAL: f64 = 5.0;

/// More than this many unready nodes are needed before a zone counts as partly disrupted (`ComputeZoneState`).
pub const PARTIAL_DISRUPTION_NODES: usize = 2;
/// `--unhealthy-zone-threshold`, default.
pub const UNHEALTHY_ZONE_SHARE: f64 = 0.55;
/// `--large-cluster-size-threshold`, default, nodes: zones up to this size stop evictions when partly disrupted.
pub const LARGE_ZONE_NODES: f64 = 50.0;
/// `--secondary-node-eviction-rate`, default, nodes per second.
pub const SECONDARY_EVICTION_RATE: f64 = 0.01;
/// Where the three defaults above stand.
pub const EVICTION_DEFAULTS: &str = "cmd/kube-controller-manager/app/options/nodelifecyclecontroller.go";

/// From a pod's deletion to its replacement's container, seconds: controller, scheduler, kubelet, image present. Ours.
pub const POD_START: f64 = 15.0;
/// From the heal until every kubelet is heard again, seconds: TCP gives up, HTTP/2 pings (30 s + 15 s) end dead connections.
pub const KUBELET_RECONNECT: f64 = 45.0;
/// Beside the grace period, seconds, for a kubelet to say that a pod is gone. Ours.
pub const POD_STOP_SLACK: f64 = 10.0;

/// From a pod's Ready condition to its EndpointSlices, seconds (theory C11: the controller acts at once; its queue and a write).
pub const ENDPOINT_SLICE_UPDATE: f64 = 5.0;
/// A kubelet puts what the API says of its pods right so often, seconds (`syncPeriod`, `pkg/kubelet/status/status_manager.go`).
pub const KUBELET_POD_STATUS: f64 = 10.0;
/// An API server's key among the endpoints of the Service `kubernetes` lasts so long, seconds (`DefaultEndpointReconcilerTTL`,
/// `pkg/controlplane/instance.go`).
pub const SERVICE_KEY_TTL: f64 = 15.0;
/// Every API server renews its key, and writes down those that are left, so often, seconds (`DefaultEndpointReconcilerInterval`,
/// same file).
pub const SERVICE_RECONCILE: f64 = 10.0;
/// From an API server's first write after the heal until it is an endpoint again, seconds: one round, and the write (theory C11).
pub const SERVICE_RETURN: f64 = 15.0;

/// Timeout of an API server's health checks of etcd, seconds (`--etcd-healthcheck-timeout` and `--etcd-readycheck-timeout`,
/// apiserver `server/options/etcd.go`). An answer is given again for half of it (`storagebackend/factory/etcd3.go`).
pub const ETCD_CHECK_TIMEOUT: f64 = 2.0;
/// Checks of etcd in `/readyz`, one after the other: `etcd` and `etcd-readiness` (apiserver `server/options/etcd.go`).
pub const ETCD_CHECKS_OF_READYZ: f64 = 2.0;
/// kubeadm's liveness probe of a kube-apiserver: seconds between two, and failures in a row until it is ended
/// (`LivenessProbe`, `cmd/kubeadm/app/util/staticpod/utils.go`).
pub const LIVENESS_PERIOD: f64 = 10.0;
pub const LIVENESS_FAILURES: f64 = 8.0;
/// A container has so long to end, seconds (`DefaultTerminationGracePeriodSeconds`, `pkg/apis/core/types.go`).
pub const TERMINATION_GRACE: f64 = 30.0;
/// First and longest back-off of a crashing container, seconds (kubelet `containerBackOffPeriod`, `MaxContainerBackOff`).
pub const CRASH_BACK_OFF: (f64, f64) = (10.0, 300.0);
/// From a static pod's start to Ready, seconds. Ours, from the lab.
pub const STATIC_POD_START: f64 = 30.0;
/// Longest time between two tries of TCP, seconds (Linux `TCP_RTO_MAX`): each waits twice as long as the one before.
pub const TCP_LONGEST_RETRANSMISSION: f64 = 120.0;
/// Share of its time by which a timer of Linux may be late (`kernel/time/timer.c`: levels of a granularity of an eighth).
pub const KERNEL_TIMER_LATE: f64 = 0.125;
/// Silence after which both ends of etcd's streams that read have given up, seconds: 30 s and nine probes, 30 s apart (`KeepAlive` in
/// `client/pkg/transport/transport.go` as Go up to 1.22 sets it, 15 s apart since; Linux `tcp_keepalive_probes`).
pub const ETCD_STREAM_KEEPALIVE: f64 = 300.0;
/// etcd while one side kept its quorum, seconds from when streams between its members carry something again, or may be dialled anew:
/// dialling, 1 s + election timeout at the longest (`PeerDialTimeout`), then a snapshot or the log (theory C22).
pub const ETCD_REJOIN: f64 = 10.0;
/// The same after a cut that left no quorum, seconds: a new election beside it. Ours; 18 s from the heal were observed on the lab.
pub const ETCD_REELECTION: f64 = 25.0;
