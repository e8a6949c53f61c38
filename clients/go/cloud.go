package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // lets the service config ask a replica whether it serves

	stead "stead.example/client/gen/stead/v1"
)

// Door says how a cloud is reached and as whom.
type Door struct {
	Endpoint      string // HOST:PORT of an api
	TokenFile     string // holds the token, never an argument of a program
	ServiceConfig string // docs/service-config.json: which calls are tried again, and how
	CertificateCA string // PEM of who signed the certificate of the proxy in front; empty without TLS
}

// Cloud is one connection with the services that this program uses.
type Cloud struct {
	connection *grpc.ClientConn
	Instances  stead.InstanceServiceClient
	Operations stead.OperationServiceClient
	Flavors    stead.FlavorServiceClient
	Images     stead.ImageServiceClient
	Quotas     stead.QuotaServiceClient
}

// token is read anew for each call: it expires, and whoever renews it replaces the file.
type token struct{ file string }

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	content, err := os.ReadFile(t.file)
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(content))}, nil
}

func (token) RequireTransportSecurity() bool { return false }

// Dial opens a connection; the first call on it connects.
func Dial(door Door) (*Cloud, error) {
	config, err := os.ReadFile(door.ServiceConfig)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if door.CertificateCA != "" {
		pem, err := os.ReadFile(door.CertificateCA)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", door.CertificateCA)
		}
		transport = credentials.NewTLS(&tls.Config{RootCAs: roots})
	}
	// A token that cannot be read would keep the health check, and with it every call, waiting.
	caller := token{door.TokenFile}
	if _, err := caller.GetRequestMetadata(context.Background()); err != nil {
		return nil, err
	}
	connection, err := grpc.NewClient(
		door.Endpoint,
		grpc.WithTransportCredentials(transport),
		grpc.WithPerRPCCredentials(caller),
		grpc.WithDefaultServiceConfig(string(config)),
	)
	if err != nil {
		return nil, err
	}
	return &Cloud{
		connection: connection,
		Instances:  stead.NewInstanceServiceClient(connection),
		Operations: stead.NewOperationServiceClient(connection),
		Flavors:    stead.NewFlavorServiceClient(connection),
		Images:     stead.NewImageServiceClient(connection),
		Quotas:     stead.NewQuotaServiceClient(connection),
	}, nil
}

// Close ends the connection and every stream on it.
func (c *Cloud) Close() { _ = c.connection.Close() }
