{{/* Prefix of the names of all objects. At most 50 characters, so that every suffix fits in 63. */}}
{{- define "rackpartition.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "rackpartition.operator" -}}
{{- printf "%s-operator" (include "rackpartition.fullname" .) -}}
{{- end -}}

{{- define "rackpartition.agent" -}}
{{- printf "%s-agent" (include "rackpartition.fullname" .) -}}
{{- end -}}

{{- define "rackpartition.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What the operator finds its own replicas by, and what never changes in a Deployment. */}}
{{- define "rackpartition.operatorSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "rackpartition.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The subject of every binding of the operator. */}}
{{- define "rackpartition.operatorSubject" -}}
- kind: ServiceAccount
  name: {{ include "rackpartition.operator" . }}
  namespace: {{ .Values.operator.namespace }}
{{- end -}}

{{/* The subject of every binding of the agents. */}}
{{- define "rackpartition.agentSubject" -}}
- kind: ServiceAccount
  name: {{ include "rackpartition.agent" . }}
  namespace: {{ .Values.agent.namespace }}
{{- end -}}
