{{- define "sql-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "sql-exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "sql-exporter.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sql-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "sql-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sql-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sql-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "sql-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: {{ include "sql-exporter.name" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The metadata of an object beside the deployment: (list $ VALUES-OF-THE-OBJECT) */}}
{{- define "sql-exporter.metadata" -}}
{{- $ := index . 0 }}
{{- $own := index . 1 -}}
name: {{ default (include "sql-exporter.fullname" $) $own.name }}
namespace: {{ default (include "sql-exporter.namespace" $) $own.namespace }}
labels:
  {{- include "sql-exporter.labels" $ | nindent 2 }}
  {{- with $own.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $own.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sql-exporter.serviceAccountName" -}}
{{- default (ternary (include "sql-exporter.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "sql-exporter.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end }}{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end }}

{{/* The main configuration file's text, where the chart makes it. */}}
{{- define "sql-exporter.config" -}}
{{- if kindIs "string" .Values.config }}{{ .Values.config }}{{ else }}{{ toYaml .Values.config }}{{ end }}
{{- end }}

{{/* Exactly one source of the configuration: "config", "configMap" or "secret". */}}
{{- define "sql-exporter.configSource" -}}
{{- $sources := list }}
{{- if .Values.config }}{{ $sources = append $sources "config" }}{{ end }}
{{- if .Values.existingConfig.configMap }}{{ $sources = append $sources "configMap" }}{{ end }}
{{- if .Values.existingConfig.secret }}{{ $sources = append $sources "secret" }}{{ end }}
{{- if ne (len $sources) 1 }}
{{- fail "set one of `config`, `existingConfig.configMap` and `existingConfig.secret`: the exporter needs a configuration with at least one database" }}
{{- end }}
{{- if and .Values.configFiles (ne (first $sources) "config") }}
{{- fail "`configFiles` goes with `config`: put the files into the ConfigMap or Secret that `existingConfig` names" }}
{{- end }}
{{- first $sources }}
{{- end }}

{{/* The path that the ServiceMonitor scrapes on each pod. */}}
{{- define "sql-exporter.scrapePath" -}}
{{- default (ternary "/-/metrics" "/metrics" .Values.scrapeConfig.enabled) .Values.serviceMonitor.path }}
{{- end }}
