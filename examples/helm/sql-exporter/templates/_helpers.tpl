{{/* A name of at most 63 characters. The name of a release may have dots, that of a Service may not. */}}
{{- define "sql-exporter.shortened" -}}
{{- . | replace "." "-" | trunc 63 | trimAll "-" }}
{{- end }}

{{- define "sql-exporter.name" -}}
{{- include "sql-exporter.shortened" (default .Chart.Name .Values.nameOverride) }}
{{- end }}

{{- define "sql-exporter.fullname" -}}
{{- $name := include "sql-exporter.name" . }}
{{- $own := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- $full := include "sql-exporter.shortened" (default $own .Values.fullnameOverride) }}
{{- if not (regexMatch "^[a-z]" $full) }}
{{- fail (printf "the name of a Service begins with a letter, not as in %q: set fullnameOverride" $full) }}
{{- end }}
{{- $full }}
{{- end }}

{{- define "sql-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "sql-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sql-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "sql-exporter.labels" -}}
{{- include "sql-exporter.labelsWith" (list . dict) }}
{{- end }}

{{/* All labels of an object, with those of its own: (list $ LABELS). Those that select the pods cannot be changed. */}}
{{- define "sql-exporter.labelsWith" -}}
{{- $ := index . 0 }}
{{- $chart := dict
  "helm.sh/chart" (printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimAll "-")
  "app.kubernetes.io/version" ($.Chart.AppVersion | replace "+" "_")
  "app.kubernetes.io/managed-by" $.Release.Service
  "app.kubernetes.io/part-of" (include "sql-exporter.name" $) }}
{{- $selecting := include "sql-exporter.selectorLabels" $ | fromYaml }}
{{- toYaml (mergeOverwrite $chart (default dict $.Values.commonLabels) (default dict (index . 1)) $selecting) }}
{{- end }}

{{/* The metadata of an object beside the deployment: (list $ VALUES-OF-THE-OBJECT) */}}
{{- define "sql-exporter.metadata" -}}
{{- $ := index . 0 }}
{{- $own := index . 1 -}}
name: {{ default (include "sql-exporter.fullname" $) $own.name | quote }}
namespace: {{ default (include "sql-exporter.namespace" $) $own.namespace | quote }}
labels:
  {{- include "sql-exporter.labelsWith" (list $ $own.labels) | nindent 2 }}
{{- with $own.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sql-exporter.serviceAccountName" -}}
{{- default (ternary (include "sql-exporter.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "sql-exporter.image" -}}
{{- with default .Values.image.registry .Values.global.imageRegistry }}{{ . }}/{{ end }}{{ .Values.image.repository }}
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

{{/* Refuses passwords that would be in a ConfigMap: (list NAME TEXT). Everybody who may look at the namespace reads those. */}}
{{- define "sql-exporter.refusePasswords" -}}
{{- $name := index . 0 }}
{{- $config := index . 1 | fromYaml }}
{{- $defaults := get $config "defaults" }}
{{- $all := dict "defaults" (ternary $defaults dict (kindIs "map" $defaults)) "databases" (get $config "databases") }}
{{- range $section, $entries := $all }}
{{- if kindIs "map" $entries }}
{{- range $entry, $keys := $entries }}
{{- if kindIs "map" $keys }}
{{- $plain := and (not (kindIs "invalid" $keys.password)) (not (contains "${" (toString $keys.password))) }}
{{- range $key := list "url" "connection_string" }}
{{- $plain = or $plain (regexMatch `^[^:]+://[^/@:]*:([^/@$]|\$[^{])+@|(^|[ ?&])password *= *['"]?([^$'" ]|\$[^{])` (toString (get $keys $key))) }}
{{- end }}
{{- if $plain }}
{{- fail (printf "%s: %s.%s has a password, which would be in a ConfigMap: write ${NAME} and set NAME from a Secret in `extraEnv`, or set `secretConfig: true`" $name $section $entry) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What all paths begin with: `web.routePrefix`, else what the configuration says. */}}
{{- define "sql-exporter.prefix" -}}
{{- $prefix := "" }}
{{- if .Values.config }}
{{- $exporter := get (include "sql-exporter.config" . | fromYaml) "exporter" }}
{{- if kindIs "map" $exporter }}{{ $prefix = get $exporter "route_prefix" | toString }}{{ end }}
{{- end }}
{{- $prefix = default $prefix .Values.web.routePrefix }}
{{- if contains "$" $prefix }}
{{- fail "the chart does not know the value of the variable in exporter.route_prefix: set web.routePrefix" }}
{{- end }}
{{- with trimAll "/" $prefix }}/{{ . }}{{ end }}
{{- end }}

{{/* A probe that asks for a path below the prefix: (list $ PROBE PATH). One that has a path, or does not ask over HTTP, keeps it. */}}
{{- define "sql-exporter.probe" -}}
{{- $ := index . 0 }}
{{- $path := printf "%s%s" (include "sql-exporter.prefix" $) (index . 2) }}
{{- $probe := deepCopy (index . 1) }}
{{- with $probe.httpGet }}
{{- $_ := set . "path" (default $path .path) }}
{{- $_ := set . "scheme" (default (ternary "HTTPS" "HTTP" $.Values.web.tls) .scheme) }}
{{- end }}
{{- toYaml $probe }}
{{- end }}

{{/* The path that the ServiceMonitor scrapes on each pod. */}}
{{- define "sql-exporter.scrapePath" -}}
{{- $path := ternary "/-/metrics" "/metrics" .Values.scrapeConfig.enabled }}
{{- default (printf "%s%s" (include "sql-exporter.prefix" .) $path) .Values.serviceMonitor.path }}
{{- end }}
