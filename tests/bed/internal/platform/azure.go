package platform

import (
	corev1 "k8s.io/api/core/v1"
)

// OldAzure does to a Pod what Azure's webhook for workload identity did up to
// 1.5.1, as it is read in
// https://github.com/Azure/azure-workload-identity/blob/v1.5.1/pkg/webhook/webhook.go
// (the checksum database knows nothing of that version, so this stands in for
// it; azwi/ has the webhook itself, 1.6.0). Each step names its lines there.
// Left out: proxy sidecars, skipped containers, expirations by annotation.
type OldAzure struct {
	// Tenant is the webhook's AZURE_TENANT_ID.
	Tenant string
}

const (
	azureToken     = "azure-identity-token"          // consts.go:53
	azureMountPath = "/var/run/secrets/azure/tokens" // consts.go:54
	azureDomain    = "azure.workload.identity"       // consts.go:6-10
)

func (a OldAzure) mutate(pod *corev1.Pod, account *corev1.ServiceAccount) error {
	var annotations map[string]string
	if account != nil {
		annotations = account.Annotations
	}
	tenant, annotated := annotations[azureDomain+"/tenant-id"] // 374-381
	if !annotated {
		tenant = a.Tenant
	}
	variables := [][2]string{ // 390-395
		{"AZURE_CLIENT_ID", annotations[azureDomain+"/client-id"]},
		{"AZURE_TENANT_ID", tenant},
		{"AZURE_FEDERATED_TOKEN_FILE", azureMountPath + "/" + azureToken},
		{"AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"},
	}
	for _, container := range containers(pod) { // 195-196, 211-223
		for _, variable := range variables { // 398-402
			if variable[1] != "" && !has(container, variable[0]) {
				set(container, variable[0], variable[1])
			}
		}
		mount(container, azureToken, azureMountPath) // 408-422: by the mount's name
	}
	if !projects(pod, azureToken) { // 424-440: by the path of a token in any volume
		pod.Spec.Volumes = append(pod.Spec.Volumes, projected(azureToken, azureToken, "api://AzureADTokenExchange", 3600)) // 442-461
	}
	return nil
}

// projects tells whether a volume of the Pod holds a token at this path.
func projects(pod *corev1.Pod, path string) bool {
	for _, volume := range pod.Spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil && source.ServiceAccountToken.Path == path {
				return true
			}
		}
	}
	return false
}
