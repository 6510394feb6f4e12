{{- define "callfleet.labels" -}}
app.kubernetes.io/part-of: callfleet
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "callfleet.operatorImage" -}}
{{ .Values.image.operator.repository }}:{{ .Values.image.operator.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "callfleet.workerImage" -}}
{{ .Values.image.worker.repository }}:{{ .Values.image.worker.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Not empty where the chart makes its Secrets; an earlier chart's values, which Helm may reuse, do not say. */}}
{{- define "callfleet.makesSecrets" -}}
{{- if ne (toString (default dict .Values.secrets).create) "false" }}yes{{ end }}
{{- end }}

{{/* In CEL: a Campaign's own worker image, or nothing. */}}
{{- define "callfleet.imageOf" -}}
{{- $worker := print . ".spec.worker" -}}
(has({{ $worker }}) && has({{ $worker }}.image) && {{ $worker }}.image != null ? string({{ $worker }}.image) : '')
{{- end }}

{{/* With a real carrier, logins, numbers and voices go over these. */}}
{{- define "callfleet.encrypted" -}}
{{- if hasPrefix "https://" .url }}{{ .url }}
{{- else }}{{ fail (printf "%s must begin with https://: %s would go unencrypted" .name .what) }}
{{- end }}
{{- end }}

{{- define "callfleet.publicUrl" -}}
{{- if and .Values.simulator.enabled .Values.carrier.publicUrl }}{{ .Values.carrier.publicUrl }}
{{- else if .Values.carrier.publicUrl }}
{{- $url := .Values.carrier.publicUrl }}
{{- include "callfleet.encrypted" (dict "name" "carrier.publicUrl" "url" $url "what" "what people say") }}
{{- else if .Values.simulator.enabled }}http://callfleet-gateway.{{ .Release.Namespace }}.svc.cluster.local:8080
{{- else }}{{ fail "carrier.publicUrl is missing: say where the carrier reaches the gateway, e.g. https://calls.example.com" }}
{{- end }}
{{- end }}

{{- define "callfleet.apiBaseUrl" -}}
{{- if and .Values.simulator.enabled .Values.carrier.apiBaseUrl }}{{ fail "carrier.apiBaseUrl and simulator.enabled exclude each other: choose one carrier" }}
{{- else if .Values.simulator.enabled }}http://callfleet-simulator.{{ .Release.Namespace }}.svc.cluster.local:8090
{{- else }}
{{- $missing := "carrier.apiBaseUrl is missing: it is never assumed; https://api.twilio.com for Twilio" }}
{{- $url := required $missing .Values.carrier.apiBaseUrl }}
{{- include "callfleet.encrypted" (dict "name" "carrier.apiBaseUrl" "url" $url "what" "the account's login") }}
{{- end }}
{{- end }}

{{- define "callfleet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "callfleet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Replicas on nodes of their own, where there are as many. */}}
{{- define "callfleet.apart" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector: {matchLabels: {app.kubernetes.io/name: {{ . }}}}
{{- end }}

{{- define "callfleet.waitForSchema" -}}
- name: wait-for-schema
  image: {{ include "callfleet.operatorImage" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [python, -m, callfleet_core.db.migrate, wait]
  env:
    - name: DATABASE_URL
      valueFrom: {secretKeyRef: {name: callfleet-operator, key: DATABASE_URL}}
  securityContext: {{- include "callfleet.containerSecurity" . | nindent 4 }}
{{- end }}

{{/* A change of a Secret rolls the pods that read it. */}}
{{- define "callfleet.checksum" -}}
checksum/secrets: {{ include (print $.Template.BasePath "/secrets.yaml") . | sha256sum }}
{{- end }}
