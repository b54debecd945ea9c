// Package pki makes the throw-away certificates of the test bed: one
// certificate authority per instance and leaves signed by it. Everything is
// X.509 v3 on ECDSA P-256 (rustls refuses v1), made at run time, never kept.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// life of every certificate; an instance lives minutes.
const life = 7 * 24 * time.Hour

// CA is a certificate authority.
type CA struct {
	// CertPEM is the authority's certificate as PEM, for trust stores.
	CertPEM []byte
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
}

// Leaf is a certificate with its private key, both PEM (key as PKCS#8).
type Leaf struct {
	CertPEM []byte
	KeyPEM  []byte
}

// NewCA makes a self-signed authority named commonName.
func NewCA(commonName string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate(pkix.Name{CommonName: commonName})
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{CertPEM: certPEM(der), cert: cert, key: key}, nil
}

// Server signs a server certificate for hosts (names or IP addresses).
func (ca *CA) Server(commonName string, hosts ...string) (Leaf, error) {
	template, err := newTemplate(pkix.Name{CommonName: commonName})
	if err != nil {
		return Leaf{}, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return ca.sign(template)
}

// Client signs a client certificate; Kubernetes reads the common name as the
// user and each organisation as a group
// (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates).
func (ca *CA) Client(user string, groups ...string) (Leaf, error) {
	template, err := newTemplate(pkix.Name{CommonName: user, Organization: groups})
	if err != nil {
		return Leaf{}, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return ca.sign(template)
}

// Write stores the authority's certificate as dir/name and returns the path.
func (ca *CA) Write(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, ca.CertPEM, 0o644)
}

// Pool returns a trust store that holds this authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// LoadPool reads the authorities of a PEM file, as a pool that trusts them alone.
func LoadPool(path string) (*x509.CertPool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

func (ca *CA) sign(template *x509.Certificate) (Leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Leaf{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return Leaf{}, err
	}
	keyPEM, err := privatePEM(key)
	return Leaf{CertPEM: certPEM(der), KeyPEM: keyPEM}, err
}

// Write stores the pair as dir/name.crt and dir/name.key (readable by the
// owner alone) and returns both paths.
func (l Leaf) Write(dir, name string) (cert, key string, err error) {
	cert = filepath.Join(dir, name+".crt")
	key = filepath.Join(dir, name+".key")
	if err = os.WriteFile(cert, l.CertPEM, 0o644); err == nil {
		err = os.WriteFile(key, l.KeyPEM, 0o600)
	}
	return cert, key, err
}

// TLS returns the pair in the form that crypto/tls uses.
func (l Leaf) TLS() (tls.Certificate, error) {
	return tls.X509KeyPair(l.CertPEM, l.KeyPEM)
}

// WriteSigningKey makes an RSA key for ServiceAccount tokens (RS256, what the
// managed Kubernetes offerings use) and stores the private part as PEM in
// dir/name; the API server reads the public part from the same file.
func WriteSigningKey(dir, name string) (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	keyPEM, err := privatePEM(key)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, keyPEM, 0o600)
}

func newTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("no serial number for a certificate: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		// Tests may run under clocks that are a little apart.
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(life),
		BasicConstraintsValid: true,
	}, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func privatePEM(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
