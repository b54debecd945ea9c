package platform

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// EKS does to a Pod what EKS' own webhook does for IRSA and EKS Pod Identity,
// as it is read in
// https://github.com/aws/amazon-eks-pod-identity-webhook/tree/3bf80a34 (the
// module proxy does not hand that module out, so this stands in for it). Each
// step names its lines, of pkg/handler/handler.go unless it says otherwise.
// Left out: skipped containers, Windows, expirations by annotation, jitter.
type EKS struct {
	// Associations are NAMESPACE/SERVICEACCOUNT of EKS Pod Identity.
	Associations []string
	// CredentialsURI is where Pods find the agent; in clusters of IPv6
	// http://[fd00:ec2::23]/v1/credentials. main.go:91
	CredentialsURI string
	// Region is the webhook's flag of that name. main.go:82
	Region string
	// RegionalSTS is the flag sts-regional-endpoint. main.go:83
	RegionalSTS bool
}

const (
	eksDomain  = "eks.amazonaws.com"      // handler.go:95
	eksSeconds = 86400                    // pkg/constants.go:21
	irsaVolume = "aws-iam-token"          // handler.go:97
	podVolume  = "eks-pod-identity-token" // main.go:89
)

// eksToken is what a Pod gets. handler.go:125-134
type eksToken struct {
	volume, mountPath, path, audience string
	// variables are set, unless the container has one of their names.
	variables [2][2]string
}

func (e EKS) mutate(pod *corev1.Pod, account *corev1.ServiceAccount) error {
	token := e.token(account)
	if token == nil {
		return nil // handler.go:505-506
	}
	for _, container := range containers(pod) { // 323-345
		e.equip(container, token)
	}
	if token.volume == podVolume { // 367-384
		if pod.Labels == nil {
			pod.Labels = map[string]string{}
		}
		pod.Labels[eksDomain+"/pod-identity"] = "enabled"
	}
	named := func(volume corev1.Volume) bool { return volume.Name == token.volume }
	if !slices.ContainsFunc(pod.Spec.Volumes, named) { // 387-413
		volume := projected(token.volume, token.path, token.audience, eksSeconds)
		pod.Spec.Volumes = append([]corev1.Volume{volume}, pod.Spec.Volumes...)
	}
	return nil
}

// token is what the Pod's ServiceAccount entitles it to: an association comes
// before the annotation. handler.go:440-507
func (e EKS) token(account *corev1.ServiceAccount) *eksToken {
	if account == nil {
		return nil
	}
	if slices.Contains(e.Associations, account.Namespace+"/"+account.Name) {
		const mountPath = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount" // main.go:88
		return &eksToken{
			volume: podVolume, mountPath: mountPath, path: "eks-pod-identity-token", audience: "pods.eks.amazonaws.com", // main.go:87-90
			variables: [2][2]string{ // handler.go:243-250
				{"AWS_CONTAINER_CREDENTIALS_FULL_URI", e.CredentialsURI},
				{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", mountPath + "/eks-pod-identity-token"},
			},
		}
	}
	role := account.Annotations[eksDomain+"/role-arn"]
	if role == "" {
		return nil
	}
	audience := "sts.amazonaws.com"
	if annotated := account.Annotations[eksDomain+"/audience"]; annotated != "" { // pkg/cache/cache.go:233-236
		audience = annotated
	}
	const mountPath = "/var/run/secrets/eks.amazonaws.com/serviceaccount" // handler.go:96
	return &eksToken{
		volume: irsaVolume, mountPath: mountPath, path: "token", audience: audience,
		variables: [2][2]string{ // handler.go:255-262
			{"AWS_ROLE_ARN", role},
			{"AWS_WEB_IDENTITY_TOKEN_FILE", mountPath + "/token"},
		},
	}
}

// equip adds to a container what it lacks. handler.go:172-285
func (e EKS) equip(container *corev1.Container, token *eksToken) {
	own := has(container, token.variables[0][0], token.variables[1][0]) // 193-200
	region := has(container, "AWS_REGION", "AWS_DEFAULT_REGION")        // 201-205
	regional := has(container, "AWS_STS_REGIONAL_ENDPOINTS")            // 206-209
	if own && region && regional {                                      // 212-217: not even the mount
		return
	}
	if !regional && e.RegionalSTS { // 222-228
		set(container, "AWS_STS_REGIONAL_ENDPOINTS", "regional")
	}
	if !region && e.Region != "" { // 230-239
		set(container, "AWS_DEFAULT_REGION", e.Region)
		set(container, "AWS_REGION", e.Region)
	}
	if !own { // 241-265: one of the two names keeps both out
		for _, variable := range token.variables {
			set(container, variable[0], variable[1])
		}
	}
	mount(container, token.volume, token.mountPath) // 269-282
}
