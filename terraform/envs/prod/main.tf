# The prod environment. See terraform/README.md for how to apply it.

terraform {
  required_version = ">= 1.10"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
  backend "s3" {
    key          = "opsin/prod.tfstate"
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "opsin", environment = "prod" }
  }
}

data "aws_vpc" "this" {
  id = var.vpc_id
}

locals {
  name       = "opsin-prod"
  network    = { vpc_id = var.vpc_id, cidr = data.aws_vpc.this.cidr_block, subnet_ids = var.subnet_ids }
  repository = { url = var.repository_url, revision = var.revision }
}

module "storage" {
  source          = "../../modules/storage"
  name            = local.name
  noncurrent_days = 365
}

module "tracking" {
  source            = "../../modules/tracking"
  name              = local.name
  network           = local.network
  repository        = local.repository
  bucket            = module.storage.bucket
  bucket_policy_arn = module.storage.write_policy_arn
  instance_type     = "t3.large"
}

module "orchestration" {
  source        = "../../modules/orchestration"
  name          = local.name
  network       = local.network
  repository    = local.repository
  instance_type = "t3.large"
}

module "training" {
  source            = "../../modules/training"
  name              = local.name
  network           = local.network
  repository        = local.repository
  bucket_policy_arn = module.storage.write_policy_arn
  prefect_api_url   = module.orchestration.api_url
  instance_type     = "g6e.4xlarge"
  max_machines      = 4
}

module "serving" {
  source              = "../../modules/serving"
  count               = var.certificate_arn == "" ? 0 : 1
  name                = local.name
  network             = local.network
  repository          = local.repository
  bucket_policy_arn   = module.storage.read_policy_arn
  certificate_arn     = var.certificate_arn
  stable_bundle       = var.stable_bundle
  canary_bundle       = var.canary_bundle
  canary_weight       = var.canary_weight
  instance_type       = "g6e.xlarge"
  deletion_protection = true
}
