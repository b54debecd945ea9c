{{- /* Of every object, and the user's: one of ours is never replaced.
https://helm.sh/docs/chart_best_practices/labels/ */ -}}
{{- define "pullpass-registries.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" "pullpass-registries"
  "app.kubernetes.io/component" "registry"
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/part-of" "pullpass"
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- toYaml (merge $own (.Values.commonLabels | default dict) (.Values.global.commonLabels | default dict)) }}
{{- end }}

{{- /* The rules that a Registry needs beside those that every pullpass has: (list name spec), and with Secrets' names behind
these, those. `pullpass rbac` says the same. */ -}}
{{- define "pullpass-registries.rules" -}}
{{- $name := index . 0 }}
{{- $spec := index . 1 }}
{{- $secrets := list }}
{{- $is_narrow := or $spec.serviceAccountNames (not (kindIs "invalid" $spec.podSelector)) (eq (toString $spec.access) "Push") }}
{{- if and $is_narrow (ne (toString $spec.delivery) "Node") }}
{{- $secrets = append $secrets (printf "pullpass-%s" $name) }}
{{- end }}
{{- range $spec.exports }}
{{- $secrets = append $secrets (printf "pullpass-%s.x-%s" $name .name) }}
{{- end }}
{{- if gt (len .) 2 }}
{{- $secrets = concat $secrets (index . 2) | uniq }}
{{- end }}
{{- with $secrets }}
# The Secrets of its own, by name.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: [{{ join ", " . }}]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- range list "ecr" "acr" }}
{{- with dig . "identity" "serviceAccount" "name" "" $spec }}
# Tokens of the ServiceAccounts that it mints as, by name.
- apiGroups: [""]
  resources: [serviceaccounts/token]
  resourceNames: [{{ . | quote }}]
  verbs: [create]
{{- end }}
{{- end }}
{{- end }}
