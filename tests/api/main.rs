//! The operator against a real etcd and a real kube-apiserver, without kubelets and without controllers.
//!
//! Nodes and control-plane pods are objects only, agents are played by the tests, and every replica of the operator runs in a
//! runtime of its own, so that it can die as a process does.

mod abort_when;
mod agents;
mod arm;
mod cluster;
mod control_plane;
mod delete;
mod election;
mod heal;
mod journal;
mod lifeline;
mod misfortune;
mod plan;
mod replica;
mod restart;
mod route;
mod rules;
mod run;
mod survey;
mod wait;
