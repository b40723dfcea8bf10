{{- define "plue.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "plue.selector" -}}
app.kubernetes.io/name: plue
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "plue.labels" -}}
{{ include "plue.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* An image from {repository, tag, digest}; the tag is the chart's version unless it is given. */}}
{{- define "plue.image" -}}
{{- $image := index . 0 -}}{{- $version := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default $version $image.tag }}
{{- end -}}
{{- end -}}

{{/* The address of one of our Services, as the kubelet puts it into a pod's environment: no
     component of ours needs DNS to find another, and runners have none at all. */}}
{{- define "plue.address" -}}
{{- $name := printf "%s-%s" (include "plue.fullname" (index . 0)) (index . 1) -}}
$({{ $name | upper | replace "-" "_" }}_SERVICE_HOST)
{{- end -}}

{{- define "plue.databaseSecret" -}}
{{- if .Values.database.existingSecret -}}
{{ .Values.database.existingSecret }}
{{- else if .Values.postgres.existingSecret -}}
{{ .Values.postgres.existingSecret }}
{{- else -}}
{{ include "plue.fullname" . }}-database
{{- end -}}
{{- end -}}

{{- define "plue.evaluatorSecret" -}}
{{ default (printf "%s-evaluator" (include "plue.fullname" .)) .Values.evaluator.existingSecret }}
{{- end -}}

{{/* Fails unless there is exactly one database. */}}
{{- define "plue.check" -}}
{{- $given := 0 -}}
{{- if .Values.database.dsn }}{{- $given = add $given 1 -}}{{ end -}}
{{- if .Values.database.existingSecret }}{{- $given = add $given 1 -}}{{ end -}}
{{- if .Values.postgres.enabled }}{{- $given = add $given 1 -}}{{ end -}}
{{- if ne (int $given) 1 -}}
{{- fail "give one database: database.existingSecret or database.dsn, or postgres.enabled=true for a trial" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not (and .Values.ingress.host .Values.ingress.tlsSecret)) -}}
{{- fail "ingress.enabled needs ingress.host and ingress.tlsSecret: tokens travel there" -}}
{{- end -}}
{{- end -}}

{{/* The environment of whoever works on the database. */}}
{{- define "plue.databaseEnv" -}}
{{- if .Values.postgres.enabled }}
- name: PLUE_POSTGRES_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "plue.databaseSecret" . }}
      key: {{ .Values.postgres.existingSecretKey }}
- name: PLUE_DATABASE
  value: host={{ include "plue.address" (list . "postgres") }} user=plue dbname=plue password=$(PLUE_POSTGRES_PASSWORD)
{{- else }}
- name: PLUE_DATABASE
  valueFrom:
    secretKeyRef:
      name: {{ include "plue.databaseSecret" . }}
      key: {{ .Values.database.existingSecretKey }}
{{- end }}
{{- end -}}

{{/* The environment of operator, gateway and API. */}}
{{- define "plue.serverEnv" -}}
{{ include "plue.databaseEnv" . }}
- name: PLUE_NAMESPACE
  value: {{ .Values.runners.namespace }}
- name: PLUE_SERVICE_ACCOUNT
  value: {{ .Values.runners.serviceAccount }}
- name: PLUE_GATEWAY_URL
  value: http://{{ include "plue.address" (list . "gateway") }}:8701
- name: PLUE_HEALTH_LISTEN
  value: 0.0.0.0:8702
- name: PLUE_MIGRATE
  value: {{ .migrates | default false | quote }}
- name: PLUE_ALONE
  value: "true"
- name: PLUE_EVALUATOR_URL
  value: http://{{ include "plue.address" (list . "evaluator") }}:8703
- name: PLUE_EVALUATOR_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "plue.evaluatorSecret" . }}
      key: {{ .Values.evaluator.existingSecretKey }}
{{- end -}}

{{- define "plue.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "plue.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
