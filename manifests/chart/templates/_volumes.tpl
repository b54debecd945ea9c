{{- /* What the container mounts. */ -}}
{{- define "pullpass.volumeMounts" -}}
{{- $aws := .Values.identity.aws }}
{{- $azure := .Values.identity.azure }}
{{- if ne .Values.certificates.mode "self" }}
- {name: tls, mountPath: /etc/pullpass/tls, readOnly: true}
{{- end }}
- {name: kubernetes, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- if .Values.webhook.clientCAConfigMap }}
- {name: client-ca, mountPath: /etc/pullpass/client-ca, readOnly: true}
{{- end }}
{{- if .Values.extraCAConfigMap }}
- {name: extra-ca, mountPath: /etc/pullpass/extra-ca, readOnly: true}
{{- end }}
{{- if $aws.roleArn }}
- {name: aws-iam-token, mountPath: /var/run/secrets/eks.amazonaws.com/serviceaccount, readOnly: true}
{{- end }}
{{- if $aws.podIdentity }}
- {name: eks-pod-identity-token, mountPath: /var/run/secrets/pods.eks.amazonaws.com/serviceaccount, readOnly: true}
{{- end }}
{{- if $azure.clientId }}
- {name: azure-identity-token, mountPath: /var/run/secrets/azure/tokens, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- /* The Pod's volumes. */ -}}
{{- define "pullpass.volumes" -}}
{{- $aws := .Values.identity.aws }}
{{- $azure := .Values.identity.azure }}
{{- if ne .Values.certificates.mode "self" }}
- name: tls
  secret: {secretName: pullpass-tls}
{{- end }}
# The API server's token, each of the clouds' by itself: short-lived, with one audience.
- name: kubernetes
  projected:
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- if .Values.webhook.clientCAConfigMap }}
- name: client-ca
  configMap:
    name: {{ .Values.webhook.clientCAConfigMap }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- if .Values.extraCAConfigMap }}
- name: extra-ca
  configMap:
    name: {{ .Values.extraCAConfigMap }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- /* Volumes and mounts of the clouds' tokens are called as the clouds' own webhooks call them, which find theirs by these names. Under
others they would mount the same path once more, and the API server creates no such Pod.
https://github.com/aws/amazon-eks-pod-identity-webhook/blob/3bf80a34/pkg/handler/handler.go#L269-L282
https://github.com/Azure/azure-workload-identity/blob/v1.5.1/pkg/webhook/webhook.go#L408-L440 */}}
{{- if $aws.roleArn }}
- name: aws-iam-token
  projected:
    sources:
      - serviceAccountToken: {path: token, audience: {{ $aws.audience | quote }}, expirationSeconds: 3600}
{{- end }}
{{- if $aws.podIdentity }}
- name: eks-pod-identity-token
  projected:
    sources:
      - serviceAccountToken: {path: eks-pod-identity-token, audience: pods.eks.amazonaws.com, expirationSeconds: 3600}
{{- end }}
{{- if $azure.clientId }}
- name: azure-identity-token
  projected:
    sources:
      - serviceAccountToken: {path: azure-identity-token, audience: {{ $azure.audience | quote }}, expirationSeconds: 3600}
{{- end }}
{{- with .Values.extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}
