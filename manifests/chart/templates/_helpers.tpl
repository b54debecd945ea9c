{{- define "pullpass.selector" -}}
app.kubernetes.io/name: pullpass
app.kubernetes.io/component: webhook
{{- end }}

{{- define "pullpass.labels" -}}
app.kubernetes.io/name: pullpass
app.kubernetes.io/part-of: pullpass
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "pullpass.image" -}}
{{- if not .Values.image.repository }}
{{- fail "image.repository is not set: push the image that `make image` built to a registry of yours and name it" }}
{{- end }}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- /* Who makes requests as pullpass. */ -}}
{{- define "pullpass.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:pullpass
{{- end }}

{{- /* Namespaces that the webhook is never called for. */ -}}
{{- define "pullpass.excluded" -}}
{{- concat (list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace) .Values.webhook.excludeNamespaces | uniq | toJson }}
{{- end }}

{{- /* Whom tokens of tenants' ServiceAccounts may be for, as a CEL list. */ -}}
{{- define "pullpass.audiences" -}}
[{{ range $n, $audience := .Values.tokenAudiences }}{{ if $n }}, {{ end }}'{{ $audience }}'{{ end }}]
{{- end }}

{{- /* How kube-apiserver reaches pullpass: (list root path caBundle), the bundle in base64. */ -}}
{{- define "pullpass.client" -}}
{{- $root := index . 0 }}
{{- $path := index . 1 }}
{{- with $root.Values.webhook.url -}}
url: {{ trimSuffix "/mutate" . }}{{ $path }}
{{- else -}}
service: {namespace: {{ $root.Release.Namespace }}, name: pullpass, port: 443, path: {{ $path }}}
{{- end }}
{{- with index . 2 }}
caBundle: {{ . }}
{{- end }}
{{- end }}

{{- /* No namespace at all, as requirements of a selector. */ -}}
{{- define "pullpass.nowhere" -}}
- {key: pullpass.dev/inject, operator: Exists}
- {key: pullpass.dev/inject, operator: DoesNotExist}
{{- end }}
