# The Prefect server: API and UI, its database in SQLite on its own volume.

module "server" {
  source        = "../server"
  name          = "${var.name}-prefect"
  service       = "prefect"
  packages      = ["prefect"]
  port          = 4200
  command       = "prefect server start --host 0.0.0.0 --port 4200"
  environment   = ["PREFECT_SERVER_UI_API_URL=http://$address:4200/api"] # where a browser finds the API
  network       = var.network
  repository    = var.repository
  instance_type = var.instance_type
}
