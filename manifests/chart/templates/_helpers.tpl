{{- define "pullpass.selector" -}}
app.kubernetes.io/name: pullpass
app.kubernetes.io/component: webhook
{{- end }}

{{- /* Of every object, and the user's: one of ours is never replaced.
https://helm.sh/docs/chart_best_practices/labels/ */ -}}
{{- define "pullpass.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" "pullpass"
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/part-of" "pullpass"
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- toYaml (merge $own (.Values.commonLabels | default dict) (.Values.global.commonLabels | default dict)) }}
{{- end }}

{{- /* Labels with more of the user's, who takes none of ours away: (list root more). */ -}}
{{- define "pullpass.labelsAnd" -}}
{{- toYaml (merge (include "pullpass.labels" (index . 0) | fromYaml) (index . 1 | default dict)) }}
{{- end }}

{{- /* What the container's environment holds by default: a list. */ -}}
{{- define "pullpass.ownEnv" -}}
{{- $aws := .Values.identity.aws }}
{{- $azure := .Values.identity.azure -}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: PULLPASS_LOG, value: {{ .Values.log.filter | quote }}}
{{- with .Values.user }}
- {name: PULLPASS_USER, value: {{ . | quote }}}
{{- end }}
{{- with .Values.webhook.excludeNamespaces }}
- {name: PULLPASS_EXCLUDE_NAMESPACES, value: {{ join "," . | quote }}}
{{- end }}
{{- if .Values.extraCAConfigMap }}
- {name: PULLPASS_EXTRA_CA, value: /etc/pullpass/extra-ca/ca.crt}
{{- end }}
{{- with $aws.region }}
- {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- if $aws.roleArn }}
- {name: AWS_ROLE_ARN, value: {{ $aws.roleArn | quote }}}
- {name: AWS_WEB_IDENTITY_TOKEN_FILE, value: /var/run/secrets/eks.amazonaws.com/serviceaccount/token}
{{- end }}
{{- if $aws.podIdentity }}
# EKS' webhook says in AWS_CONTAINER_CREDENTIALS_FULL_URI where the agent is, in the cluster's address family, unless it is said here.
- {name: PULLPASS_POD_IDENTITY_TOKEN_FILE, value: /var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token}
{{- end }}
{{- if $azure.clientId }}
- {name: AZURE_CLIENT_ID, value: {{ $azure.clientId | quote }}}
- {name: AZURE_TENANT_ID, value: {{ $azure.tenantId | quote }}}
- {name: AZURE_FEDERATED_TOKEN_FILE, value: /var/run/secrets/azure/tokens/azure-identity-token}
{{- end }}
{{- end }}

{{- /* The container's environment: an entry of `extraEnv` replaces ours with its name, and the last of a name counts. Server-side
apply, which Helm 4 uses, refuses a name that is there twice. */ -}}
{{- define "pullpass.env" -}}
{{- $entries := dict }}
{{- $names := list }}
{{- range concat (include "pullpass.ownEnv" . | fromYamlArray) (.Values.extraEnv | default list) }}
{{- $names = append $names .name }}
{{- $_ := set $entries .name . }}
{{- end }}
{{- range uniq $names }}
{{- list (get $entries .) | toYaml | nindent 0 }}
{{- end }}
{{- end }}

{{- /* The port of an ADDRESS:PORT, or what it is by default: (list address default). */ -}}
{{- define "pullpass.port" -}}
{{- index . 0 | default (printf ":%v" (index . 1)) | regexFind "[0-9]+$" }}
{{- end }}

{{- /* A Pod's or a container's security context: (list root context). */ -}}
{{- define "pullpass.securityContext" -}}
{{- $context := index . 1 | default dict }}
{{- if (index . 0).Values.openshift }}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}
{{- end }}
{{- toYaml $context }}
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
{{ .Values.user | default (printf "system:serviceaccount:%s:pullpass" .Release.Namespace) }}
{{- end }}

{{- /* Namespaces that the webhook is never called for. */ -}}
{{- define "pullpass.excluded" -}}
{{- concat (list "kube-system" "kube-public" "kube-node-lease" .Release.Namespace) .Values.webhook.excludeNamespaces | uniq | toJson }}
{{- end }}

{{- /* The same as the subjects of a binding. */ -}}
{{- define "pullpass.subjects" -}}
{{- if .Values.user -}}
- kind: User
  apiGroup: rbac.authorization.k8s.io
  name: {{ .Values.user | quote }}
{{- else -}}
- kind: ServiceAccount
  name: pullpass
  namespace: {{ .Release.Namespace }}
{{- end }}
{{- end }}

{{- /* Whether the namespace of a request is excluded, in CEL. */ -}}
{{- define "pullpass.isExcluded" -}}
request.namespace.startsWith('kube-') || request.namespace in [{{ range $n, $name := concat (list .Release.Namespace) .Values.webhook.excludeNamespaces | uniq }}{{ if $n }}, {{ end }}'{{ $name }}'{{ end }}]
{{- end }}

{{- /* Validations: a Secret has no owners, finalizers or other labels than these, unless it had them before. */ -}}
{{- define "pullpass.plainMetadata" -}}
- expression: >-
    object == null || object.metadata.?labels.orValue({}).all(key, key in [{{ range $n, $key := . }}{{ if $n }}, {{ end }}'{{ $key }}'{{ end }}] ||
    (oldObject != null && oldObject.metadata.?labels[?key] == object.metadata.?labels[?key]))
  message: pullpass gives its Secrets labels of its own, and no others
{{- range list "ownerReferences" "finalizers" }}
- expression: >-
    object == null || (oldObject == null ? object.metadata.?{{ . }}.orValue([]).size() == 0 : object.metadata.?{{ . }} == oldObject.metadata.?{{ . }})
  message: pullpass gives its Secrets no {{ . }}, and changes none
{{- end }}
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

{{- /* Of both webhook configurations. With pullpass.dev/ca-bundle: given, a replica of before the mode changed does not put its own
authority back. */ -}}
{{- define "pullpass.webhookAnnotations" -}}
{{- $own := dict }}
{{- if ne .Values.certificates.mode "self" }}
{{- $_ := set $own "pullpass.dev/ca-bundle" "given" }}
{{- end }}
{{- if eq .Values.certificates.mode "cert-manager" }}
{{- $_ := set $own "cert-manager.io/inject-ca-from" (printf "%s/pullpass" .Release.Namespace) }}
{{- end }}
{{- with merge $own (.Values.webhook.annotations | default dict) }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- /* Where an alert's runbook is: (list root alert). */ -}}
{{- define "pullpass.runbook" -}}
{{- with (index . 0).Values.prometheusRule.runbookURL -}}
runbook_url: {{ printf "%s#%s" . (index $ 1 | lower) | quote }}
{{- end }}
{{- end }}
