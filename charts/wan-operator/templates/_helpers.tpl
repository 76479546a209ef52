{{- define "wan-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 47 characters: the longest suffix, `-leader-election`, has 16, and 63 is the limit of a label. */}}
{{- define "wan-operator.fullname" -}}
{{- $name := include "wan-operator.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- default $full .Values.fullnameOverride | trunc 47 | trimSuffix "-" }}
{{- end }}

{{- define "wan-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "wan-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wan-operator.labels" -}}
{{ include "wan-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "wan-operator.serviceAccountName" -}}
{{- default (.Values.serviceAccount.create | ternary (include "wan-operator.fullname" .) "default") .Values.serviceAccount.name }}
{{- end }}

{{- define "wan-operator.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* At most 50 characters: a StatefulSet's pods carry its name and eleven more in a label. */}}
{{- define "wan-operator.database" -}}
{{ include "wan-operator.fullname" . }}-db
{{- end }}

{{/* Not the operator's selector labels: its Service and Deployment must not take this pod for it. */}}
{{- define "wan-operator.databaseLabels" -}}
app.kubernetes.io/name: {{ include "wan-operator.name" . | trunc 60 | trimSuffix "-" }}-db
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The way out to DNS. It has no labels that are alike in all clusters. */}}
{{- define "wan-operator.dns" -}}
- ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end }}

{{/* One rule list for the ClusterRole and for the Role of each watched namespace. No verb on Secrets: step pods mount
them by reference. Nothing may be changed on pods: Jobs and Deployments make and remove them. */}}
{{- define "wan-operator.rules" -}}
- apiGroups: [wan-operator.dev]
  resources: [wanfinetunes, waninferenceservices, wanevaluations]
  verbs: [get, list, watch]
- apiGroups: [wan-operator.dev]
  resources: [wanfinetunes/status, waninferenceservices/status, wanevaluations/status]
  verbs: [patch]
# Children block their owner's deletion; where OwnerReferencesPermissionEnforcement is on, that needs this verb.
- apiGroups: [wan-operator.dev]
  resources: [wanfinetunes/finalizers, waninferenceservices/finalizers, wanevaluations/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  # `patch` is for an annotation that makes a Job try again at once to create its pod, and to let suspended Jobs go that
  # remove what deleted resources left.
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# A ReplicaSet has the API server's words where a quota or an admission rule refuses its pods.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Why Kueue holds a Job is in its Workload. Without `list`, conditions say only that a queue holds it.
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list]
# Events of Jobs, ReplicaSets and pods say why these do not start. Without `list`, conditions say less.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, list]
{{- end }}
